//! A far end that speaks HTTP/2 frame by frame, so that it can misbehave.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One server side connection.
pub(super) struct Frames(pub(super) TcpStream);

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frames {
    /// After the preface.
    pub(super) async fn accept(mut stream: TcpStream) -> Self {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        let mut this = Self(stream);
        this.send(SETTINGS, 0, 0, &[]).await;
        this
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame but settings and pings, which are answered. `None` at the
    /// end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let frame = Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                PING if frame.flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
                SETTINGS | PING => {}
                kind if kind <= HEADERS => return Some(frame),
                _ => {}
            }
        }
    }

    /// The stream of the next request, once its head has arrived.
    pub(super) async fn head(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// The stream of the next request, once it has arrived in full.
    pub(super) async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    /// The head of a gRPC answer.
    pub(super) async fn begin_answer(&mut self, stream: u32) {
        let mut head = vec![0x88];
        head.extend(field("content-type", "application/grpc"));
        self.send(HEADERS, END_HEADERS, stream, &head).await;
    }

    /// A whole gRPC answer.
    pub(super) async fn answer(&mut self, stream: u32, status: &str) {
        self.begin_answer(stream).await;
        self.send(0, 0, stream, &[0; 5]).await;
        let trailers = field("grpc-status", status);
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &trailers)
            .await;
    }

    /// A whole HTTP answer without a body.
    pub(super) async fn http(&mut self, stream: u32, status: &str) {
        let mut head = field(":status", status);
        head.extend(field("server", "nginx/1.27.5"));
        head.extend(field("content-type", "text/html"));
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head)
            .await;
    }

    pub(super) async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    pub(super) async fn go_away(&mut self, last: u32, code: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend_from_slice(&code.to_be_bytes());
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// Reads until the other side closes.
    pub(super) async fn linger(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Ends the connection with a TCP reset.
    #[allow(deprecated, reason = "it never blocks with zero")]
    pub(super) fn abort(self) {
        self.0.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

/// A header field as HPACK's literal without indexing.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut encoded = vec![0, u8::try_from(name.len()).unwrap()];
    encoded.extend_from_slice(name.as_bytes());
    encoded.push(u8::try_from(value.len()).unwrap());
    encoded.extend_from_slice(value.as_bytes());
    encoded
}
