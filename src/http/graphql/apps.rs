//! Apps.

use std::sync::Arc;

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{Function as Registered, FunctionId};
use callboard_actors::ports::AppView;

use super::asked::{asked, failed};
use super::functions::Function;
use super::scalars::Uuid;
use crate::error::{Code, Problem};

/// An app that has registered.
#[derive(Debug, Clone)]
pub(super) struct App(AppView);

/// How an app is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "AppMethod")]
pub(super) enum Method {
    /// It is called at its URL.
    Serve,
    /// Its workers have connected.
    Connect,
    /// It was registered by hand.
    Api,
}

#[derive(Debug, SimpleObject)]
#[graphql(name = "SDKFeatureStatus")]
struct SdkFeatureStatus {
    ready: bool,
    reason: Option<i32>,
}

#[derive(Debug, SimpleObject)]
#[graphql(name = "SDKFeatureReadiness")]
struct SdkFeatureReadiness {
    ai_metadata_extraction: SdkFeatureStatus,
    extended_traces: SdkFeatureStatus,
}

fn unknown(what: &str) -> async_graphql::Error {
    failed(Problem::new(Code::UnknownApp, format!("there is no app {what}")))
}

/// Apps that are not removed.
fn present(catalog: &Catalog) -> impl Iterator<Item = &AppView> {
    catalog.apps().iter().filter(|view| !view.app.url.is_empty())
}

impl App {
    /// # Errors
    /// When the app is not known.
    pub(super) fn of_function(catalog: &Catalog, function: &Registered) -> Result<Self> {
        let view = catalog.apps().iter().find(|view| view.app.name == function.app);
        view.cloned().map(Self).ok_or_else(|| unknown(&function.app))
    }

    /// # Errors
    /// When there is no such app, or none any more.
    pub(super) fn by_id(catalog: &Catalog, id: &str) -> Result<Self> {
        let is_meant = |view: &&AppView| {
            FunctionId::app_uuid(&view.app.name)
                .to_string()
                .eq_ignore_ascii_case(id)
        };
        present(catalog)
            .find(is_meant)
            .cloned()
            .map(Self)
            .ok_or_else(|| unknown(id))
    }

    /// The app at a URL in its customary spelling.
    pub(super) fn by_url(catalog: &Catalog, url: &str) -> Option<Self> {
        present(catalog).find(|view| view.app.url == url).cloned().map(Self)
    }

    pub(super) fn by_name(catalog: &Catalog, name: &str) -> Option<Self> {
        present(catalog).find(|view| *view.app.name == *name).cloned().map(Self)
    }

    pub(super) fn url(&self) -> &str {
        &self.0.app.url
    }

    fn functions(&self) -> impl Iterator<Item = &Registered> {
        self.0.functions.iter().filter(|function| !function.archived)
    }

    fn method(&self) -> Method {
        let app = &self.0.app;
        if app.url.starts_with("ws:") || app.url.starts_with("wss:") {
            Method::Connect
        } else if app.sdk.is_empty() {
            Method::Api
        } else {
            Method::Serve
        }
    }

    /// Language and version of the SDK, from a text such as `js:v4.18.1`.
    fn sdk(&self) -> (&str, &str) {
        self.0.app.sdk.split_once(':').unwrap_or((&self.0.app.sdk, ""))
    }
}

#[Object]
impl App {
    async fn id(&self) -> async_graphql::ID {
        FunctionId::app_uuid(&self.0.app.name).to_string().into()
    }

    #[graphql(name = "externalID")]
    async fn external_id(&self) -> &str {
        &self.0.app.name
    }

    async fn name(&self) -> &str {
        &self.0.app.name
    }

    async fn sdk_language(&self) -> &str {
        self.sdk().0
    }

    async fn sdk_version(&self) -> &str {
        self.sdk().1
    }

    async fn framework(&self) -> Option<&str> {
        self.0.app.framework.as_deref()
    }

    #[graphql(name = "url")]
    async fn address(&self) -> Option<&str> {
        Some(self.url()).filter(|url| !url.is_empty())
    }

    async fn checksum(&self) -> Option<&str> {
        Some(self.0.app.checksum.as_str()).filter(|checksum| !checksum.is_empty())
    }

    /// Why the last sync that was asked for failed.
    async fn error(&self) -> Option<&str> {
        self.0.app.error.as_deref()
    }

    #[graphql(name = "functions")]
    async fn own_functions(&self) -> Vec<Function> {
        self.functions()
            .map(|function| Function(Arc::new(function.clone())))
            .collect()
    }

    #[graphql(name = "method")]
    async fn own_method(&self) -> Method {
        self.method()
    }

    async fn app_version(&self) -> Option<&str> {
        self.0.app.version.as_deref()
    }

    async fn sdk_feature_readiness(&self) -> SdkFeatureReadiness {
        let not = || SdkFeatureStatus {
            ready: false,
            reason: None,
        };
        SdkFeatureReadiness {
            ai_metadata_extraction: not(),
            extended_traces: not(),
        }
    }

    /// Whether it answered when it was last asked.
    async fn connected(&self) -> bool {
        self.0.app.error.is_none()
    }

    async fn function_count(&self) -> i32 {
        i32::try_from(self.functions().count()).unwrap_or(i32::MAX)
    }

    /// Which apps were found by looking for them is not kept.
    async fn autodiscovered(&self) -> bool {
        false
    }
}

#[derive(Debug, InputObject)]
pub(super) struct AppsFilterV1 {
    method: Option<Method>,
}

/// The questions about apps.
#[derive(Debug, Default)]
pub(super) struct Query;

#[Object(name = "QueryOfApps")]
impl Query {
    /// All apps that are not removed, by name.
    async fn apps(&self, ctx: &Context<'_>, filter: Option<AppsFilterV1>) -> Vec<App> {
        let method = filter.and_then(|filter| filter.method);
        let apps = present(&asked(ctx).catalog).cloned().map(App);
        apps.filter(|app| method.is_none_or(|method| app.method() == method))
            .collect()
    }

    /// An app.
    async fn app(&self, ctx: &Context<'_>, id: Uuid) -> Result<Option<App>> {
        App::by_id(&asked(ctx).catalog, &id.0).map(Some)
    }
}
