//! A PUT whose body is streamed, over a connection of its own.
//!
//! For places that a backend names, such as the signed URLs of object stores: nothing
//! is added that could give a credential away. The connection is not kept.

use super::{ExchangeError, HttpClient, HttpError, place::Place};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::{body::Body, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::error::Error;

/// The most of an answer that is read, in bytes: it explains a refusal.
const MAX_ANSWER: usize = 4 << 10;

// === impl HttpClient ===

impl HttpClient {
    /// Sends a body of an exact size to `uri`, with a `content-length`. The status of
    /// the answer and the beginning of its text; any status is an answer. Ends when
    /// the body fails.
    pub async fn put<B>(&self, uri: &Uri, body: B) -> Result<(StatusCode, String), HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        // The query may be a secret, and an address in an error is shown.
        let wrong = || HttpError::Address(without_query(uri).to_string());
        let place = Place::of(uri).map_err(|_| wrong())?;
        let stream = Box::pin(self.0.connector.connect(uri)).await?;
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, place.host.clone());
        headers.insert(header::USER_AGENT, super::USER_AGENT);
        if let Some(size) = body.size_hint().exact() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        }
        let target = if stream.is_forwarded() {
            self.0.connector.forward_headers(uri, &mut headers);
            uri.clone()
        } else {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            path.parse().map_err(|_| wrong())?
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = target;
        *request.headers_mut() = headers;
        let failed = |error| HttpError::of(&without_query(uri), ExchangeError::Http(error));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let answer = async move {
            let response = sender.send_request(request).await?;
            let (status, mut body) = (response.status(), response.into_body());
            let mut text = Vec::new();
            while text.len() < MAX_ANSWER
                && let Some(Ok(frame)) = body.frame().await
            {
                text.extend(frame.into_data().unwrap_or_default());
            }
            text.truncate(MAX_ANSWER);
            Ok((status, String::from_utf8_lossy(&text).into_owned()))
        };
        tokio::pin!(answer, connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer.map_err(failed),
            // It has no more to do; the answer knows what became of it.
            _ = &mut connection => answer.await.map_err(failed),
        }
    }
}

/// What may be shown of an address whose query is a secret.
fn without_query(uri: &Uri) -> Uri {
    let text = uri.to_string();
    let shown = text.split_once('?').map_or(&*text, |(before, _)| before);
    shown.parse().unwrap_or_default()
}
