//! Runs what hyper wants to run beside an HTTP/2 connection.

use crate::runtime::Tasks;
use std::future::Future;

/// An executor for hyper over [`Tasks`].
#[derive(Clone, Debug)]
pub(super) struct Spawn(pub(super) Tasks);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("http2 stream", future);
    }
}
