//! `/api/v1/dead-letters`: jobs that were given up, and what to do about them.
//!
//! Each holds its run until somebody decides: a retry puts the job back, which goes on where it was; a discard fails the
//! run. Whatever ends the run otherwise takes its letters along.

use actix_web::HttpResponse;
use actix_web::web::{Path, Query};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{DeadLetter as StoredLetter, Json, LetterId};
use callboard_actors::ports::DeadLetterFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{reading, view};
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::state::State;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// A function's slug or UUID.
    function: Option<String>,
    /// An app's name.
    app: Option<String>,
    /// Given up then or later: RFC 3339, or milliseconds since 1970.
    from: Option<String>,
    /// Given up before.
    until: Option<String>,
    /// Of the page before.
    cursor: Option<String>,
    /// 1 to 100.
    #[param(value_type = Option<u8>)]
    limit: Option<String>,
}

impl ListQuery {
    fn filter(&self, catalog: &Catalog) -> Result<DeadLetterFilter, Problem> {
        Ok(DeadLetterFilter {
            functions: reading::functions(
                catalog,
                reading::given(self.function.as_ref()),
                reading::given(self.app.as_ref()),
            )?,
            from: reading::time("from", self.from.as_ref())?,
            until: reading::time("until", self.until.as_ref())?,
            before: reading::given(self.cursor.as_ref())
                .map(|text| reading::id("cursor", text))
                .transpose()?,
            limit: reading::limit(reading::given(self.limit.as_ref()))?,
        })
    }
}

/// A job that was given up.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetter {
    id: String,
    run_id: String,
    /// Which job of the run.
    #[schema(example = "start")]
    job: String,
    /// Attempts that the app answered before.
    attempt: u32,
    function: view::FunctionRef,
    /// Why it was given up, such as how often it brought its executor down.
    reason: String,
    at: String,
}

impl DeadLetter {
    fn of(catalog: &Catalog, letter: &StoredLetter) -> Self {
        let job = &letter.job;
        Self {
            id: letter.id.to_string(),
            run_id: job.id.run.to_string(),
            job: job.id.key.to_string(),
            attempt: job.attempt,
            function: view::FunctionRef::of(catalog, job.function),
            reason: letter.reason.clone(),
            at: letter.at().to_rfc3339(),
        }
    }
}

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
    /// For the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// List the jobs that were given up, from new to old.
#[utoipa::path(
    get, path = "/api/v1/dead-letters", tag = "operations", params(ListQuery),
    responses((status = 200, body = DeadLetters), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let catalog = api.catalog();
    let page = api.store().dead_letters(&query.filter(&catalog)?).await?;
    let last = page.items.last().map(|letter| letter.id.to_string());
    let letters = page.items.iter().map(|letter| DeadLetter::of(&catalog, letter));
    Ok(HttpResponse::Ok().json(DeadLetters {
        dead_letters: letters.collect(),
        cursor: last.filter(|_| page.has_more),
    }))
}

/// A job that was given up, with what it carries and its run.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetterDetail {
    #[serde(flatten)]
    letter: DeadLetter,
    /// When the job was due.
    due: String,
    /// What it carries: the result of a wait, the reason of a cancellation.
    #[schema(value_type = Option<Value>)]
    payload: Option<Json>,
    run: view::Run,
}

/// Look at a job that was given up, and at the run it holds.
#[utoipa::path(
    get, path = "/api/v1/dead-letters/{id}", tag = "operations", params(("id" = String, Path)),
    responses((status = 200, body = DeadLetterDetail), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn get(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id = reading::id("id", &id)?;
    let api = state.api()?;
    let letter = api.store().dead_letter(id).await?.ok_or_else(|| unknown(id))?;
    // A run that has gone meanwhile has taken its letters along.
    let run = api.store().run_view(letter.job.id.run).await?;
    let run = run.ok_or_else(|| unknown(id))?;
    let catalog = api.catalog();
    Ok(HttpResponse::Ok().json(DeadLetterDetail {
        letter: DeadLetter::of(&catalog, &letter),
        due: letter.job.due.to_rfc3339(),
        payload: letter.job.payload.clone(),
        run: view::Run::of(&catalog, &run.summary),
    }))
}

fn unknown(id: LetterId) -> Problem {
    Problem::new(Code::UnknownDeadLetter, format!("there is no dead letter {id}"))
}

/// A dead letter that has been decided about, and is gone.
#[derive(Serialize, ToSchema)]
pub(super) struct Settled {
    id: String,
    run_id: String,
    #[schema(example = "start")]
    job: String,
}

impl Settled {
    fn of(letter: &StoredLetter) -> Self {
        Self {
            id: letter.id.to_string(),
            run_id: letter.job.id.run.to_string(),
            job: letter.job.id.key.to_string(),
        }
    }
}

/// Try a job again that was given up, now. Steps that are done are not run again.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/{id}/retry", tag = "operations", params(("id" = String, Path)),
    responses((status = 200, body = Settled), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn retry(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id = reading::id("id", &id)?;
    let letter = state.api()?.retry_dead_letter(id).await?.ok_or_else(|| unknown(id))?;
    Ok(HttpResponse::Ok().json(Settled::of(&letter)))
}

/// Don't try a job again that was given up: its run fails, for the reason that the letter tells.
#[utoipa::path(
    delete, path = "/api/v1/dead-letters/{id}", tag = "operations", params(("id" = String, Path)),
    responses((status = 200, body = Settled), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn discard(id: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let id = reading::id("id", &id)?;
    let letter = state.api()?.discard_dead_letter(id).await?.ok_or_else(|| unknown(id))?;
    Ok(HttpResponse::Ok().json(Settled::of(&letter)))
}

/// What came of a retry by filter.
#[derive(Serialize, ToSchema)]
pub(super) struct RetriedMany {
    /// How many jobs were put back.
    retried: usize,
    /// Whether there are more of the kind: ask again. Jobs that are given up anew count among them, unless `until` leaves
    /// them out.
    has_more: bool,
}

/// Try the jobs again that were given up, those that the filter means, from new to old, up to `limit` of them.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/retry", tag = "operations", params(ListQuery),
    responses((status = 200, body = RetriedMany), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn retry_many(query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let retried = api.retry_dead_letters(query.filter(&api.catalog())?).await?;
    Ok(HttpResponse::Ok().json(RetriedMany {
        retried: retried.count,
        has_more: retried.has_more,
    }))
}
