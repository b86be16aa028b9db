//! Spans as GraphQL shows them, and the questions about traces.

use std::sync::Arc;

use async_graphql::{Context, Object, Result, SimpleObject};
use callboard_actors::domain::{
    Function, FunctionId, Metadata, MetadataOp, MetadataUpdate, RunId, StepId, StepOp, TraceId, UserSpan,
};
use tokio::sync::OnceCell;

use super::super::asked::{Asked, Viewed, asked, failed, id};
use super::super::function_run::FunctionRun;
use super::super::scalars::{HttpHeaders, SpanMetadataKind, SpanMetadataScope, SpanMetadataValues, Time, Ulid, Uuid};
use super::info::StepInfo;
use super::output::{OutputId, RunTraceSpanOutput};
use super::tree::{self, Node};
use super::{Op, SpanStatus, View, userland};

/// A span of a run: a place in its tree.
#[derive(Debug, Clone)]
pub(in crate::http::graphql) struct RunTraceSpan {
    tree: Arc<Tree>,
    /// From the root downwards, which child.
    path: Vec<usize>,
}

#[derive(Debug)]
struct Tree {
    viewed: Arc<Viewed>,
    function: Arc<Function>,
    view: View,
    root: Node,
    /// Loaded for who asks for it.
    noted: OnceCell<Metadata>,
}

impl Tree {
    async fn noted(&self, asked: &Asked) -> Result<&Metadata> {
        let load = || async {
            let log = asked
                .store()
                .metadata(self.viewed.view.summary.id)
                .await
                .map_err(failed)?;
            Ok(Metadata::of(log.unwrap_or_default()))
        };
        self.noted.get_or_try_init(load).await
    }
}

/// A span that an app has sent.
#[derive(Debug, SimpleObject)]
struct UserlandSpan {
    span_name: Option<String>,
    span_kind: Option<String>,
    service_name: Option<String>,
    resource_attrs: Option<String>,
    scope_name: Option<String>,
    scope_version: Option<String>,
    span_attrs: Option<String>,
}

impl UserlandSpan {
    fn of(span: &UserSpan) -> Self {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            span_name: text(&span.name),
            span_kind: text(&span.kind),
            service_name: span.service().and_then(text),
            resource_attrs: serde_json::to_string(&span.resource).ok(),
            scope_name: text(&span.scope),
            scope_version: text(&span.scope_version),
            span_attrs: serde_json::to_string(&span.attributes).ok(),
        }
    }
}

/// What an app has noted about a run or a step.
#[derive(Debug, SimpleObject)]
struct SpanMetadata {
    scope: SpanMetadataScope,
    kind: SpanMetadataKind,
    values: SpanMetadataValues,
    updated_at: Time,
}

/// What the app answered with.
#[derive(Debug, SimpleObject)]
struct SpanResponse {
    status_code: i32,
    headers: HttpHeaders,
}

impl RunTraceSpan {
    /// The root span of a run.
    ///
    /// # Errors
    /// When there is no such run.
    pub(in crate::http::graphql) async fn root(asked: &Asked, run: RunId, view: View) -> Result<Self> {
        let viewed = asked.run(run).await?;
        let function = asked.function(viewed.view.summary.function)?;
        let mut root = tree::build(&viewed, view, &function.name, function.max_attempts());
        userland::attach(&mut root, asked.store().spans(run).await.map_err(failed)?);
        let tree = Tree {
            viewed,
            function,
            view,
            root,
            noted: OnceCell::new(),
        };
        Ok(Self {
            tree: Arc::new(tree),
            path: Vec::new(),
        })
    }

    fn node(&self) -> &Node {
        self.path
            .iter()
            .fold(&self.tree.root, |node, place| &node.children[*place])
    }

    fn at(&self, path: Vec<usize>) -> Self {
        Self {
            tree: Arc::clone(&self.tree),
            path,
        }
    }

    fn parent(&self) -> Option<Self> {
        let (_, above) = self.path.split_last()?;
        Some(match self.tree.view {
            View::Legacy => self.at(Vec::new()),
            View::Preview => self.at(above.to_vec()),
        })
    }
}

#[Object]
impl RunTraceSpan {
    #[graphql(name = "appID")]
    async fn app_id(&self) -> Uuid {
        Uuid::of(FunctionId::app_uuid(&self.tree.function.app))
    }

    #[graphql(name = "functionID")]
    async fn function_id(&self) -> Uuid {
        Uuid::of(self.tree.function.id)
    }

    #[graphql(name = "runID")]
    async fn run_id(&self) -> Ulid {
        Ulid::of(self.tree.viewed.view.summary.id)
    }

    async fn run(&self) -> FunctionRun {
        FunctionRun::of(self.tree.viewed.view.summary.clone())
    }

    #[graphql(name = "spanID")]
    async fn span_id(&self) -> &str {
        &self.node().id
    }

    #[graphql(name = "traceID")]
    async fn trace_id(&self) -> String {
        trace_id(self.tree.viewed.view.summary.id)
    }

    /// The step's id, which all its attempts share.
    #[graphql(name = "groupID")]
    async fn group_id(&self) -> Option<&str> {
        self.node().step_id.as_deref()
    }

    async fn name(&self) -> &str {
        &self.node().name
    }

    async fn status(&self) -> SpanStatus {
        self.node().status
    }

    async fn attempts(&self) -> Option<i32> {
        i32::try_from(self.node().attempts).ok()
    }

    /// In milliseconds; null while it goes on.
    async fn duration(&self) -> Option<i32> {
        let node = self.node();
        let span = node.ended_at?.since(node.started_at?);
        Some(i32::try_from(span.as_millis()).unwrap_or(i32::MAX))
    }

    #[graphql(name = "outputID")]
    async fn output_id(&self) -> Option<&str> {
        self.node().output.as_deref()
    }

    async fn queued_at(&self) -> Time {
        Time(self.node().queued_at)
    }

    async fn scheduled_at(&self) -> Option<Time> {
        Some(Time(self.node().queued_at))
    }

    async fn started_at(&self) -> Option<Time> {
        self.node().started_at.map(Time)
    }

    async fn ended_at(&self) -> Option<Time> {
        self.node().ended_at.map(Time)
    }

    async fn children_spans(&self) -> Vec<Self> {
        let below = |place| self.at([self.path.as_slice(), &[place]].concat());
        (0..self.node().children.len()).map(below).collect()
    }

    async fn step_op(&self) -> Option<Op> {
        self.node().op
    }

    #[graphql(name = "stepID")]
    async fn step_id(&self) -> Option<&str> {
        let of_user = || self.node().userland.as_ref()?.step.as_ref().map(StepId::as_str);
        self.node().step_id.as_deref().or_else(of_user)
    }

    async fn step_info(&self) -> Option<StepInfo> {
        self.node().info.clone()
    }

    async fn step_type(&self) -> &str {
        &self.node().step_type
    }

    async fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    #[graphql(name = "parentSpanID")]
    async fn parent_span_id(&self) -> Option<String> {
        Some(self.parent()?.node().id.clone())
    }

    async fn parent_span(&self) -> Option<Self> {
        self.parent()
    }

    async fn is_userland(&self) -> bool {
        self.node().userland.is_some()
    }

    async fn userland_span(&self) -> Option<UserlandSpan> {
        self.node().userland.as_deref().map(UserlandSpan::of)
    }

    #[graphql(name = "debugRunID")]
    async fn debug_run_id(&self) -> Option<Ulid> {
        None
    }

    #[graphql(name = "debugSessionID")]
    async fn debug_session_id(&self) -> Option<Ulid> {
        None
    }

    async fn debug_paused(&self) -> bool {
        false
    }

    async fn skip_reason(&self) -> Option<String> {
        None
    }

    #[graphql(name = "skipExistingRunID")]
    async fn skip_existing_run_id(&self) -> Option<Ulid> {
        None
    }

    /// What was noted about it, the latest of each kind.
    #[graphql(complexity = "5 + child_complexity")]
    async fn metadata(&self, ctx: &Context<'_>) -> Result<Vec<SpanMetadata>> {
        let noted = self.tree.noted(asked(ctx)).await?;
        let (node, is_root) = (self.node(), self.path.is_empty());
        let meant = noted
            .entries()
            .iter()
            .filter(|entry| node.is_meant(&entry.target, is_root));
        let shown = meant.map(|entry| SpanMetadata {
            scope: SpanMetadataScope(entry.target.scope().to_owned()),
            kind: SpanMetadataKind(entry.kind.clone()),
            values: SpanMetadataValues(entry.values.clone()),
            updated_at: Time(entry.updated_at),
        });
        Ok(shown.chain(node.userland.as_deref().and_then(model_call)).collect())
    }

    /// Where the answer of a failed attempt was noted.
    async fn response(&self) -> Option<SpanResponse> {
        let status_code = i32::from(self.node().http_status?);
        Some(SpanResponse {
            status_code,
            headers: HttpHeaders(std::collections::BTreeMap::new()),
        })
    }
}

/// The id of a run's trace.
pub(in crate::http::graphql) fn trace_id(run: RunId) -> String {
    TraceId::of_run(run).to_string()
}

/// What a model was asked within a user's span, as metadata.
fn model_call(span: &UserSpan) -> Option<SpanMetadata> {
    let update = MetadataUpdate {
        kind: "inngest.ai".to_owned(),
        op: MetadataOp::Set,
        values: span.model_call()?,
    };
    let update = update.accept().ok()?;
    Some(SpanMetadata {
        scope: SpanMetadataScope("extended_trace".to_owned()),
        kind: SpanMetadataKind(update.kind),
        values: SpanMetadataValues(update.values),
        updated_at: Time(span.end()),
    })
}

/// The questions about traces.
#[derive(Debug, Default)]
pub(in crate::http::graphql) struct Query;

#[Object(name = "QueryOfTraces")]
impl Query {
    /// The root span of a run, in the preview view.
    #[graphql(complexity = "200 + child_complexity")]
    async fn run_trace(&self, ctx: &Context<'_>, #[graphql(name = "runID")] run_id: String) -> Result<RunTraceSpan> {
        let run = id::<RunId>("a run", &run_id)?;
        RunTraceSpan::root(asked(ctx), run, View::Preview).await
    }

    /// What an output id stands for.
    #[graphql(name = "runTraceSpanOutputByID", complexity = "200 + child_complexity")]
    async fn run_trace_span_output_by_id(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "outputID")] output_id: String,
    ) -> Result<RunTraceSpanOutput> {
        let output = OutputId::decode(&output_id)?;
        let viewed = asked(ctx).run(output.run()).await?;
        RunTraceSpanOutput::find(&viewed.view, &output)
    }
}

/// Whether a model was asked.
pub(in crate::http::graphql) fn has_ai(viewed: &Viewed) -> bool {
    viewed.view.steps.iter().any(|step| step.op == StepOp::AiGateway)
}
