//! `grpc.health.v1`: whether this node is ready to serve.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, health_server::Health};
use crate::rt::sync::watch;

/// The services that clients may ask about; the empty name is the whole node.
const SERVICES: [&str; 4] = ["", "tikvpb.Tikv", "pdpb.PD", "armilla.pd.Cluster"];

/// The health service of a node. Clones share its state.
#[derive(Clone, Debug)]
pub struct HealthService {
    serving: watch::Receiver<bool>,
}

impl HealthService {
    /// Creates the service, which answers with the value of `serving`.
    pub fn new(serving: watch::Receiver<bool>) -> HealthService {
        HealthService { serving }
    }
}

fn reply(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

fn of(serving: bool) -> HealthCheckResponse {
    reply(if serving { ServingStatus::Serving } else { ServingStatus::NotServing })
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = &request.get_ref().service;
        if !SERVICES.contains(&name.as_str()) {
            return Err(Status::not_found(format!("no service {name:?}")));
        }
        Ok(Response::new(of(*self.serving.borrow())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let stream: Self::WatchStream = if SERVICES.contains(&request.get_ref().service.as_str()) {
            Box::pin(WatchStream::new(self.serving.clone()).map(|serving| Ok(of(serving))))
        } else {
            // The protocol requires this answer, and that the stream stays open in case the service appears.
            Box::pin(stream::iter([Ok(reply(ServingStatus::ServiceUnknown))]).chain(stream::pending()))
        };
        Ok(Response::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn ask(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.into() })
    }

    #[test]
    fn follows_the_node() {
        let (set, serving) = watch::channel(false);
        let health = HealthService::new(serving);
        let check = |name| health.check(ask(name)).now_or_never().unwrap();
        assert_eq!(check("").unwrap().get_ref().status, ServingStatus::NotServing as i32);
        let mut updates = health.watch(ask("tikvpb.Tikv")).now_or_never().unwrap().unwrap().into_inner();
        let mut next = || updates.next().now_or_never().map(|update| update.unwrap().unwrap().status);
        assert_eq!(next(), Some(ServingStatus::NotServing as i32));
        assert_eq!(next(), None);
        set.send(true).unwrap();
        assert_eq!(next(), Some(ServingStatus::Serving as i32));
        assert_eq!(check("pdpb.PD").unwrap().get_ref().status, ServingStatus::Serving as i32);
        assert_eq!(check("nonsense").unwrap_err().code(), tonic::Code::NotFound);
    }
}
