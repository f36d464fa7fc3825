//! The service `keyspacepb.Keyspace`: clients with API V2 ask it for their keyspace's ID when they start.
//!
//! A name or an ID comes **in**, a keyspace goes **out**, or an error in the header, as PD answers. **Never**: a
//! keyspace of a cluster with API V1: its client's keys would be refused one by one.

use std::future::Future;

use tonic::{Request, Response, Status};

use super::calls::Method;
use super::forward;
use super::layer::observe::Observer;
use super::pd::{Seat, check, refusal, status};
use crate::pd::{KEYSPACE_EXISTS, NO_KEYSPACE, PdError, PdServer};
use crate::proto::armilla::pd::SetKeyspaceState;
use crate::proto::armilla::pd::change_keyspace::Change;
use crate::proto::keyspacepb::keyspace_server::Keyspace;
use crate::proto::keyspacepb::{
    GetAllKeyspacesRequest, GetAllKeyspacesResponse, KeyspaceMeta, LoadKeyspaceByIdRequest, LoadKeyspaceRequest,
    LoadKeyspaceResponse, LookupKeyspaceRequest, LookupKeyspaceResponse, UpdateKeyspaceStateRequest,
    UpdateKeyspaceStateResponse,
};
use crate::proto::pdpb::{ErrorType, RequestHeader, ResponseHeader};

/// The service `keyspacepb.Keyspace` of a node. Clones share its state.
#[derive(Clone, Debug)]
pub struct KeyspaceService {
    seat: Seat,
    observer: Observer,
}

fn kind_of(why: &str) -> ErrorType {
    match why {
        NO_KEYSPACE => ErrorType::EntryNotFound,
        KEYSPACE_EXISTS => ErrorType::DuplicatedEntry,
        _ => ErrorType::Unknown,
    }
}

impl KeyspaceService {
    /// Creates the service of a node with this seat.
    pub fn new(seat: Seat, observer: Observer) -> KeyspaceService {
        KeyspaceService { seat, observer }
    }

    /// Answers a request by the leader: asks this node's member, and puts what it refuses into the header.
    async fn lead<'a, Q, T, F>(
        &'a self,
        method: Method,
        request: &'a Request<Q>,
        header: Option<&RequestHeader>,
        ask: impl FnOnce(&'a PdServer) -> F,
    ) -> Result<(Option<ResponseHeader>, Option<T>), Status>
    where
        F: Future<Output = Result<T, PdError>>,
    {
        let work = async {
            let server = self.seat.server()?;
            forward::meant_for(server.addr(), request.metadata())?;
            let cluster_id = self.seat.cluster_id();
            check(cluster_id, header)?;
            let refused = |kind, why| Ok((Some(refusal(cluster_id, kind, why)), None));
            match ask(server).await {
                Ok(found) => Ok((Some(ResponseHeader { cluster_id, error: None }), Some(found))),
                Err(PdError::Invalid(why)) => refused(kind_of(&why), why),
                Err(error @ PdError::NotBootstrapped) => refused(ErrorType::NotBootstrapped, error.to_string()),
                Err(error) => Err(status(error)),
            }
        };
        Ok(self.observer.call(method, work).await?.into_inner())
    }
}

fn found(keyspace: Option<KeyspaceMeta>) -> Result<KeyspaceMeta, PdError> {
    keyspace.ok_or_else(|| PdError::Invalid(NO_KEYSPACE.into()))
}

type Answer<R> = Result<Response<R>, Status>;

#[tonic::async_trait]
impl Keyspace for KeyspaceService {
    async fn load_keyspace(&self, request: Request<LoadKeyspaceRequest>) -> Answer<LoadKeyspaceResponse> {
        let LoadKeyspaceRequest { header, name } = request.get_ref();
        let ask = |pd: &PdServer| {
            let pd = pd.clone();
            async move { found(pd.keyspace(|state| state.keyspace_named(name)).await?) }
        };
        let (header, keyspace) = self.lead(Method::LoadKeyspace, &request, header.as_ref(), ask).await?;
        Ok(Response::new(LoadKeyspaceResponse { header, keyspace }))
    }

    async fn load_keyspace_by_id(&self, request: Request<LoadKeyspaceByIdRequest>) -> Answer<LoadKeyspaceResponse> {
        let LoadKeyspaceByIdRequest { header, id } = request.get_ref();
        let ask = |pd: &PdServer| {
            let pd = pd.clone();
            async move { found(pd.keyspace(|state| state.keyspace(*id)).await?) }
        };
        let (header, keyspace) = self.lead(Method::LoadKeyspaceByID, &request, header.as_ref(), ask).await?;
        Ok(Response::new(LoadKeyspaceResponse { header, keyspace }))
    }

    /// Names are unique, so there is one at most.
    async fn lookup_keyspace(&self, request: Request<LookupKeyspaceRequest>) -> Answer<LookupKeyspaceResponse> {
        let LookupKeyspaceRequest { header, name } = request.get_ref();
        let ask = |pd: &PdServer| {
            let pd = pd.clone();
            async move { pd.keyspace(|state| state.keyspace_named(name)).await }
        };
        let (header, keyspace) = self.lead(Method::LookupKeyspace, &request, header.as_ref(), ask).await?;
        let keyspaces = keyspace.flatten().into_iter().collect();
        Ok(Response::new(LookupKeyspaceResponse { header, keyspaces }))
    }

    async fn update_keyspace_state(
        &self,
        request: Request<UpdateKeyspaceStateRequest>,
    ) -> Answer<UpdateKeyspaceStateResponse> {
        let UpdateKeyspaceStateRequest { header, id, state } = request.get_ref();
        let change = Change::SetState(SetKeyspaceState { id: *id, state: *state });
        let ask = |pd: &PdServer| {
            let pd = pd.clone();
            async move { pd.change_keyspace(change).await }
        };
        let (header, keyspace) = self.lead(Method::UpdateKeyspaceState, &request, header.as_ref(), ask).await?;
        Ok(Response::new(UpdateKeyspaceStateResponse { header, keyspace }))
    }

    async fn get_all_keyspaces(&self, request: Request<GetAllKeyspacesRequest>) -> Answer<GetAllKeyspacesResponse> {
        let GetAllKeyspacesRequest { header, start_id, limit } = request.get_ref();
        let ask = |pd: &PdServer| {
            let pd = pd.clone();
            async move { pd.keyspaces().await }
        };
        let (header, all) = self.lead(Method::GetAllKeyspaces, &request, header.as_ref(), ask).await?;
        let limit = if *limit == 0 { usize::MAX } else { *limit as usize };
        let all = all.unwrap_or_default().keyspaces;
        let keyspaces = all.into_iter().filter(|keyspace| keyspace.id >= *start_id).take(limit).collect();
        Ok(Response::new(GetAllKeyspacesResponse { header, keyspaces }))
    }
}
