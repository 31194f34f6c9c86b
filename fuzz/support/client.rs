//! A client of a receiver, which says what a script says and insists on answers.

use crate::{
    relay::{PATIENCE, Relay},
    script::{Call, End, Piece, Script},
};
use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response, request};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{sleep, timeout},
};

/// A method that is called.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub path: &'static str,
    pub answer: Answer,
}

/// What is insisted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A status of gRPC, in time.
    Grpc,
    /// An HTTP response, in time.
    Http,
    /// Nothing: it may go on for as long as its client.
    Any,
}

// === impl Relay ===

impl Relay {
    /// Calls what a script says, over one connection.
    pub fn calls(
        &self,
        door: usize,
        script: Script<'_>,
        (targets, sound): (&[Target], &[Bytes]),
        headers: impl Fn(u8) -> HeaderMap,
    ) {
        let calls = script.calls(sound);
        self.visit(door, async |stream| {
            let handshake = Builder::new().handshake::<_, Bytes>(stream).await;
            let (requests, connection) = handshake.expect("HTTP/2 is spoken");
            let connection = tokio::spawn(connection);
            let mut beside = Vec::new();
            for call in calls {
                let target = targets[call.path % targets.len()];
                let head = Request::post(format!("http://relay{}", target.path));
                let head = head.body(()).expect("a request");
                let (mut head, ()) = head.into_parts();
                head.headers = headers(call.headers);
                let is_beside = call.is_beside;
                let calling = tokio::spawn(make(requests.clone(), head, call, target.answer));
                match is_beside {
                    true => beside.push(calling),
                    false => calling.await.expect("an answer"),
                }
            }
            for calling in beside {
                calling.await.expect("an answer");
            }
            drop(requests);
            let ended = timeout(PATIENCE, connection).await;
            _ = ended.expect("the connection ends");
        });
    }

    /// Says `bytes` without HTTP; then the client is silent, or gone.
    pub fn says(&self, door: usize, bytes: &[u8], is_gone: bool) {
        self.visit(door, async |stream: DuplexStream| {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let listening = tokio::spawn(async move {
                let mut heard = [0; 4096];
                while reader.read(&mut heard).await.is_ok_and(|read| read > 0) {}
            });
            // It may be thrown out before it has said all.
            _ = writer.write_all(bytes).await;
            if is_gone {
                _ = writer.shutdown().await;
            }
            let ended = timeout(PATIENCE * 2, listening).await;
            ended.expect("the connection ends").expect("no panic");
        });
    }
}

async fn make(requests: SendRequest<Bytes>, head: request::Parts, call: Call, answer: Answer) {
    // HTTP/2 itself resets what is not as long as it said.
    let may_be_reset = head.headers.contains_key("content-length");
    let mut requests = requests.ready().await.expect("it is served");
    let request = Request::from_parts(head, ());
    let told = format!("{} of {call:?}", request.uri().path());
    let (response, body) = requests.send_request(request, false).expect("a stream");
    let patience = PATIENCE + call.pauses();
    let end = call.end;
    let heard = tokio::spawn(timeout(patience, hear(response)));
    let held = say(body, call).await;
    let heard = match end {
        End::Reset => {
            heard.abort();
            return;
        }
        _ => heard.await.expect("no panic"),
    };
    drop(held);
    let (response, trailers) = match (heard, answer) {
        (_, Answer::Any) => return,
        (Err(_), _) => panic!("no answer within {patience:?}: {told}"),
        (Ok(Err(_)), _) if may_be_reset => return,
        (Ok(heard), _) => heard.unwrap_or_else(|error| panic!("{error}: {told}")),
    };
    if answer == Answer::Grpc && response.status() == 200 {
        let status = trailers.get("grpc-status");
        let status = status.or_else(|| response.headers().get("grpc-status"));
        let status = status.unwrap_or_else(|| panic!("no status: {told}"));
        let status: u8 = status.to_str().expect("digits").parse().expect("a number");
        assert!(status <= 16, "{status}");
    }
}

/// Says all; what keeps a silent client's call open.
async fn say(mut body: SendStream<Bytes>, call: Call) -> Option<SendStream<Bytes>> {
    for piece in call.pieces {
        match piece {
            Piece::Data(data) => {
                if body.send_data(data, false).is_err() {
                    // The answer is there already.
                    return Some(body);
                }
                tokio::task::yield_now().await;
            }
            Piece::Pause(time) => sleep(time).await,
        }
    }
    match call.end {
        End::Whole => _ = body.send_data(Bytes::new(), true),
        End::Trailers => _ = body.send_trailers(HeaderMap::new()),
        End::Silence => {}
        End::Reset => {
            sleep(Duration::from_millis(1)).await;
            body.send_reset(Reason::CANCEL);
        }
    }
    Some(body)
}

/// The whole answer.
async fn hear(response: ResponseFuture) -> Result<(Response<()>, HeaderMap), h2::Error> {
    let (head, mut body): (_, RecvStream) = response.await?.into_parts();
    while let Some(data) = body.data().await {
        let read = data?.len();
        body.flow_control().release_capacity(read)?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((Response::from_parts(head, ()), trailers))
}
