//! The services that gRPC tools expect everywhere: `grpc.health.v1`, and
//! `grpc.reflection` in its two versions.

use super::{
    super::Answer,
    question::{MAX_MESSAGE, Question},
};
use http::{Request, Response};
use hyper::body::Incoming;
use std::{convert::Infallible, future::Future, pin::Pin, sync::OnceLock};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};
use tower_service::Service;
use tracing::error;

type Served = Pin<Box<dyn Future<Output = Response<tonic::body::Body>> + Send>>;

/// A request that asks no more than is good.
type Asked = Request<Question<Incoming>>;

/// A tonic service of any type.
type Boxed = Box<dyn Fn(Asked) -> Served + Send + Sync>;

const HEALTH: &str = "/grpc.health.v1.Health/";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/";
const REFLECTION_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/";

/// Health and reflection of a listener.
pub(super) struct Side {
    services: Vec<&'static str>,
    descriptors: &'static [u8],
    stop: CancellationToken,
    reporter: HealthReporter,
    health: Boxed,
    /// Made when somebody asks: nobody does, most of the time.
    reflection: OnceLock<Option<[Boxed; 2]>>,
}

/// Tells who asks for health.
#[derive(Clone, Debug)]
pub struct Health {
    services: Vec<&'static str>,
    reporter: HealthReporter,
}

// === impl Side ===

impl Side {
    pub(super) fn new(
        services: Vec<&'static str>,
        descriptors: &'static [u8],
        stop: CancellationToken,
    ) -> Self {
        let (reporter, health) = tonic_health::server::health_reporter();
        let mut side = Self {
            services: Vec::new(),
            descriptors,
            stop,
            reporter,
            health: boxed(health.max_decoding_message_size(MAX_MESSAGE)),
            reflection: OnceLock::new(),
        };
        side.add(services);
        side
    }

    /// Tells of `services` too.
    pub(super) fn add(&mut self, services: impl IntoIterator<Item = &'static str>) {
        self.services.extend(services);
        self.services.sort_unstable();
        self.services.dedup();
    }

    pub(super) fn health(&self) -> Health {
        Health {
            services: self.services.clone(),
            reporter: self.reporter.clone(),
        }
    }

    /// Serves a request, or gives it back.
    pub(super) async fn serve(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Request<Incoming>> {
        let path = request.uri().path();
        let service = if path.starts_with(HEALTH) {
            Some(&self.health)
        } else if path.starts_with(REFLECTION) {
            self.reflection().map(|[v1, _]| v1)
        } else if path.starts_with(REFLECTION_ALPHA) {
            self.reflection().map(|[_, alpha]| alpha)
        } else {
            None
        };
        match service {
            Some(service) => {
                let response = service(request.map(Question::new)).await;
                Ok(response.map(|body| Answer::streamed(body, self.stop.clone())))
            }
            None => Err(request),
        }
    }

    fn reflection(&self) -> Option<&[Boxed; 2]> {
        let made = self.reflection.get_or_init(|| match self.describe() {
            Ok(services) => Some(services),
            Err(error) => {
                error!(%error, "reflection is not served");
                None
            }
        });
        made.as_ref()
    }

    fn describe(&self) -> Result<[Boxed; 2], tonic_reflection::server::Error> {
        let builder = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(self.descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            let names = self.services.iter();
            names.fold(builder, |builder, name| builder.with_service_name(*name))
        };
        Ok([
            boxed(builder().build_v1()?.max_decoding_message_size(MAX_MESSAGE)),
            boxed(
                builder()
                    .build_v1alpha()?
                    .max_decoding_message_size(MAX_MESSAGE),
            ),
        ])
    }
}

fn boxed<S>(service: S) -> Boxed
where
    S: Service<Asked, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    Box::new(move |request| {
        let served = service.clone().call(request);
        Box::pin(async move {
            match served.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    })
}

// === impl Health ===

impl Health {
    /// The listener takes calls.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// The listener is about to end.
    pub async fn ending(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for service in self.services.iter().chain([&""]) {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
