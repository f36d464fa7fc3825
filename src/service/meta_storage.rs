//! `meta_storagepb.MetaStorage`: the keys that PD keeps for others in its etcd. There are none here.
//!
//! Clients look for servers that replace parts of PD (`/ms/<cluster>/…/registry/`) and for settings of resource
//! control. There are none, and a plain PD gives the same answer. An empty response of the leader, at the revision of
//! an etcd that was never written to, goes **out**. **Never**: an accepted write, because it would not be stored.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

use crate::proto::meta_storagepb::meta_storage_server::MetaStorage;
use crate::proto::meta_storagepb::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, PutRequest, PutResponse, ResponseHeader, WatchRequest,
    WatchResponse,
};

use super::calls::Method;
use super::etcd::REVISION;
use super::forward;
use super::layer::observe::Observer;
use super::pd::{Seat, status};

/// The service of a node. Clones share its state.
#[derive(Clone, Debug)]
pub struct MetaStorageService {
    seat: Seat,
    observer: Observer,
}

impl MetaStorageService {
    /// Creates the service of a node with this seat.
    pub fn new(seat: Seat, observer: Observer) -> MetaStorageService {
        MetaStorageService { seat, observer }
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader { cluster_id: self.seat.cluster_id(), error: None, revision: REVISION }
    }

    /// Checks that this node is the leader. As in PD, only the leader answers, and it does not check the request's
    /// cluster.
    async fn lead<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let server = self.seat.server()?;
        forward::meant_for(server.addr(), request.metadata())?;
        server.confirm_leader().await.map_err(status)
    }
}

fn unsupported(method: &str) -> Status {
    Status::unimplemented(format!("MetaStorage/{method}: this placement driver does not store keys for clients"))
}

#[tonic::async_trait]
impl MetaStorage for MetaStorageService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let work = async {
            self.lead(&request).await?;
            Ok(GetResponse { header: Some(self.header()), ..GetResponse::default() })
        };
        self.observer.call(Method::MetaStorageGet, work).await
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    /// The stream stays open and silent, because nothing ever changes.
    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.lead(&request).await?;
        Ok(Response::new(stream::pending().boxed()))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Err(unsupported("Put"))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Err(unsupported("Delete"))
    }
}
