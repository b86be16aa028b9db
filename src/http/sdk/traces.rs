//! Traces and telemetry that SDKs send. Spans of what goes on in runs are kept with the runs; the rest is taken and dropped,
//! which keeps exporters quiet.

use std::io::Read as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use actix_web::web::{self, Bytes, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use prost::Message;
use serde::Serialize;

use crate::error::{Code, Problem};
use crate::http::body;
use crate::http::state::{AppState, State};
use crate::otlp::userland::Export;
use crate::otlp::wire::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse, RpcStatus};

/// Bytes of one export, as it comes and as it is when it is no longer compressed.
const LIMIT: usize = 8 * 1024 * 1024;
/// Runs that one export may be about: those of more than one batch of an exporter.
const RUNS: usize = 1_000;

pub(super) fn userland(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/traces/userland").route(web::post().to(take_traces)));
}

pub(super) fn dev(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/dev/traces").route(web::post().to(drop_traces)));
}

pub(super) fn telemetry(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/telemetry").route(web::post().to(drop_traces)));
}

/// How an export is written, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(req: &HttpRequest) -> Option<Self> {
        let content_type = req.headers().get(CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
        if content_type.contains("json") {
            Some(Self::Json)
        } else {
            content_type.contains("protobuf").then_some(Self::Protobuf)
        }
    }

    fn answer<T: Message + Serialize>(self, status: StatusCode, message: &T) -> HttpResponse {
        let mut answer = HttpResponse::build(status);
        match self {
            Self::Json => answer.json(message),
            Self::Protobuf => answer
                .content_type("application/x-protobuf")
                .body(message.encode_to_vec()),
        }
    }

    /// A problem as the protocol tells it.
    fn refuse(self, problem: &Problem) -> HttpResponse {
        /// Codes of gRPC.
        const INVALID_ARGUMENT: i32 = 3;
        const UNAVAILABLE: i32 = 14;
        let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = if status.is_client_error() {
            INVALID_ARGUMENT
        } else {
            UNAVAILABLE
        };
        let message = problem.message.clone();
        let mut answer = self.answer(status, &RpcStatus { code, message });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("1");
            answer.headers_mut().insert(RETRY_AFTER, soon);
        }
        answer
    }
}

/// Spans of what goes on in runs.
async fn take_traces(req: HttpRequest, payload: Payload, state: State) -> HttpResponse {
    let Some(encoding) = Encoding::of(&req) else {
        body::discard(payload, LIMIT).await;
        let message = "spans come as application/x-protobuf or application/json";
        let problem = Problem::new(Code::EncodedBody, message);
        state.refusals.count(&problem);
        return Encoding::Json.refuse(&problem);
    };
    match try_take(&req, payload, &state, encoding).await {
        Ok(answer) => encoding.answer(StatusCode::OK, &answer),
        Err(problem) => {
            state.refusals.count(&problem);
            encoding.refuse(&problem)
        }
    }
}

async fn try_take(
    req: &HttpRequest,
    payload: Payload,
    state: &AppState,
    encoding: Encoding,
) -> Result<ExportTraceServiceResponse, Problem> {
    let api = state.api()?;
    let mut permit = state.options.intake.permit();
    let compressed = body::read_as_it_is(req, payload, LIMIT, &mut permit).await?;
    let is_gzip = is_gzip(req)?;
    let most = if is_gzip { LIMIT } else { compressed.len() };
    let export = body::understand(compressed, most, move |body| understand(body, is_gzip, encoding)).await?;
    let mut rejected = export.stray;
    for (place, (run, spans)) in export.by_run.into_iter().enumerate() {
        rejected += if place < RUNS {
            api.store().add_spans(run, &spans).await?
        } else {
            spans.len()
        };
    }
    let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: "spans that belong to no known run, are too large, or of which their runs have too many"
            .to_owned(),
    });
    Ok(ExportTraceServiceResponse { partial_success })
}

/// Whether the body is compressed.
fn is_gzip(req: &HttpRequest) -> Result<bool, Problem> {
    match req.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => Ok(false),
        Some(name) if name.eq_ignore_ascii_case(b"identity") => Ok(false),
        Some(name) if name.eq_ignore_ascii_case(b"gzip") => Ok(true),
        Some(_) => Err(Code::EncodedBody.into()),
    }
}

fn understand(body: Bytes, is_gzip: bool, encoding: Encoding) -> Result<Export, Problem> {
    let invalid = |error: String| Problem::new(Code::InvalidData, format!("the export is not understood: {error}"));
    let body = if is_gzip { plain(&body)? } else { body };
    let request = match encoding {
        Encoding::Json => serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?,
        Encoding::Protobuf => ExportTraceServiceRequest::decode(body).map_err(|error| invalid(error.to_string()))?,
    };
    Ok(Export::of(request))
}

/// The body as it was before it was compressed.
fn plain(body: &[u8]) -> Result<Bytes, Problem> {
    let mut plain = Vec::with_capacity(body.len());
    let most = u64::try_from(LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    let read = flate2::read::GzDecoder::new(body).take(most).read_to_end(&mut plain);
    read.map_err(|error| Problem::new(Code::InvalidData, format!("the export is not gzip: {error}")))?;
    if plain.len() > LIMIT {
        return Err(body::too_large(LIMIT));
    }
    Ok(plain.into())
}

/// A full success, in the encoding of the request: an empty message.
async fn drop_traces(req: HttpRequest, payload: Payload) -> HttpResponse {
    body::discard(payload, LIMIT).await;
    let encoding = Encoding::of(&req).unwrap_or(Encoding::Json);
    encoding.answer(StatusCode::OK, &ExportTraceServiceResponse::default())
}
