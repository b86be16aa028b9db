//! Connections of workers. There are none: apps are called by HTTP.

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};

use super::apps::App;
use super::paging::PageInfo;
use super::scalars::{Time, Ulid, Uuid};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum ConnectV1ConnectionStatus {
    Connected,
    Ready,
    Draining,
    Disconnecting,
    Disconnected,
}

/// A connection of a worker.
#[derive(Debug, SimpleObject)]
struct ConnectV1WorkerConnection {
    id: Ulid,
    gateway_id: Ulid,
    instance_id: String,
    worker_ip: String,
    max_worker_concurrency: i32,
    app_name: Option<String>,
    #[graphql(name = "appID")]
    app_id: Option<Uuid>,
    app: Option<App>,
    connected_at: Time,
    last_heartbeat_at: Option<Time>,
    disconnected_at: Option<Time>,
    disconnect_reason: Option<String>,
    status: ConnectV1ConnectionStatus,
    group_hash: String,
    sdk_lang: String,
    sdk_version: String,
    sdk_platform: String,
    sync_id: Option<Uuid>,
    build_id: Option<String>,
    app_version: Option<String>,
    function_count: i32,
    cpu_cores: i32,
    mem_bytes: i32,
    os: String,
}

#[derive(Debug, SimpleObject)]
struct ConnectV1WorkerConnectionEdge {
    node: ConnectV1WorkerConnection,
    cursor: String,
}

/// A list of connections.
#[derive(Debug, SimpleObject)]
pub(super) struct ConnectV1WorkerConnectionsConnection {
    edges: Vec<ConnectV1WorkerConnectionEdge>,
    page_info: PageInfo,
    total_count: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum ConnectV1WorkerConnectionsOrderByField {
    #[graphql(name = "CONNECTED_AT")]
    Connected,
    #[graphql(name = "LAST_HEARTBEAT_AT")]
    LastHeartbeat,
    #[graphql(name = "DISCONNECTED_AT")]
    Disconnected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum ConnectV1WorkerConnectionsOrderByDirection {
    Asc,
    Desc,
}

#[derive(Debug, InputObject)]
pub(super) struct ConnectV1WorkerConnectionsOrderBy {
    field: ConnectV1WorkerConnectionsOrderByField,
    direction: ConnectV1WorkerConnectionsOrderByDirection,
}

#[derive(Debug, InputObject)]
pub(super) struct ConnectV1WorkerConnectionsFilter {
    from: Option<Time>,
    until: Option<Time>,
    #[graphql(default_with = "ConnectV1WorkerConnectionsOrderByField::Connected")]
    time_field: ConnectV1WorkerConnectionsOrderByField,
    status: Option<Vec<ConnectV1ConnectionStatus>>,
    #[graphql(name = "appIDs")]
    app_ids: Option<Vec<Uuid>>,
}

/// The questions about workers.
#[derive(Debug, Default)]
pub(super) struct Query;

#[Object(name = "QueryOfWorkers")]
impl Query {
    /// Connections of workers: an empty list.
    async fn worker_connections(
        &self,
        _ctx: &Context<'_>,
        #[graphql(default = 100)] _first: i32,
        _after: Option<String>,
        _order_by: Vec<ConnectV1WorkerConnectionsOrderBy>,
        _filter: ConnectV1WorkerConnectionsFilter,
    ) -> Result<ConnectV1WorkerConnectionsConnection> {
        Ok(ConnectV1WorkerConnectionsConnection {
            edges: Vec::new(),
            page_info: PageInfo::of(&[], false, false),
            total_count: 0,
        })
    }
}
