//! What this API has, for programs: an OpenAPI document and a catalogue of operations, both made of the table of endpoints.

use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::{ENDPOINTS, Endpoint};

/// The parameters of a path, in their order.
fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// What a parameter of the query may be. Empty ones count as left out; names may be in snake case, too.
fn schema(endpoint: &Endpoint, parameter: &str) -> Value {
    match parameter {
        "limit" => {
            let most = match endpoint.id {
                "GetEnvs" => 250,
                "GetEventRuns" => 40,
                _ => 100,
            };
            json!({"type": "integer", "minimum": 1, "maximum": most, "default": 20})
        }
        "archived" | "isDeferred" | "includeOutput" => {
            json!({"type": "string", "enum": ["true", "false", "1", "0", ""]})
        }
        "timeField" => json!({"type": "string", "enum": ["queuedAt", "startedAt", "endedAt", ""]}),
        "from" | "until" => json!({"type": "string", "description": "RFC 3339, or milliseconds since 1970"}),
        "order" => json!({"type": "string", "description": "asc or desc"}),
        "status" => {
            json!({"type": "string", "description": "QUEUED, RUNNING, COMPLETED, FAILED or CANCELLED; several with commas"})
        }
        _ => json!({"type": "string"}),
    }
}

/// The refusals of an endpoint: status and what it says.
fn refusals(endpoint: &Endpoint) -> Vec<(&'static str, &'static str)> {
    let mut refusals = vec![
        (
            "401",
            "The server asks for keys, and there is none, or one it does not know",
        ),
        ("403", "The key's scope is too low"),
        ("503", "Not now: try again after `Retry-After`"),
    ];
    let is_post = endpoint.method == "post";
    if is_post || !endpoint.query.is_empty() || endpoint.path.contains("{run}") {
        refusals.push(("400", "Something asked for is not what it may be"));
    }
    if endpoint.path.contains('{') {
        refusals.push(("404", "There is no such thing"));
    }
    if is_post {
        refusals.extend([
            ("408", "The body did not arrive in time"),
            ("413", "The body is too large"),
            ("415", "The body is compressed"),
        ]);
    }
    match endpoint.id {
        "InvokeFunction" => refusals.push(("422", "The function was not run now; the code says why")),
        "CancelRun" => refusals.push(("409", "The run has ended")),
        "RerunRun" => refusals.push(("409", "The run can't be done again")),
        _ => {}
    }
    refusals
}

/// What an endpoint answers, by status.
fn responses(endpoint: &Endpoint) -> Value {
    let response = |description: &str, name: &str| {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        json!({"description": description, "content": {"application/json": {"schema": schema}}})
    };
    if endpoint.id == "CreateEnv" {
        return json!({"501": response("Not implemented", "Errors")});
    }
    let refusals = refusals(endpoint).into_iter();
    let refusals = refusals.map(|(status, what)| (status.to_owned(), response(what, "Errors")));
    let mut responses: Map<String, Value> = refusals.collect();
    responses.insert("200".to_owned(), response("Done", "Answer"));
    if endpoint.id == "InvokeFunction" {
        let what = "The idempotency key was used before; the answer is that of then";
        responses.insert("409".to_owned(), response(what, "Answer"));
    }
    Value::Object(responses)
}

/// The schema of an endpoint's body.
fn body(endpoint: &Endpoint) -> Value {
    let text = json!({"type": "string"});
    match endpoint.id {
        "InvokeFunction" => json!({"type": "object", "required": ["data"], "properties": {
            "data": {"type": "object"},
            "idempotencyKey": {"type": ["string", "null"], "maxLength": 512},
        }}),
        "SendEvent" => json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "minLength": 1},
            "data": {"type": ["object", "null"]},
        }}),
        "RerunRun" => json!({"type": "object", "properties": {"fromStep": {
            "type": ["object", "null"],
            "required": ["stepId"],
            "properties": {"stepId": {"type": "string", "minLength": 1}, "input": {}},
        }}}),
        "CreateScores" => json!({"type": "array", "minItems": 1, "maxItems": 100, "items": {
            "type": "object",
            "required": ["name", "value"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "value": {"type": ["number", "boolean"]},
                "stepId": {"type": ["string", "null"]},
                "experiment": {
                    "type": ["object", "null"],
                    "required": ["id", "variant"],
                    "properties": {"id": text, "variant": text},
                },
            },
        }}),
        _ => json!({"type": "object"}),
    }
}

fn operation(endpoint: &Endpoint) -> Value {
    let of_path = placeholders(endpoint.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let of_query = endpoint
        .query
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": schema(endpoint, name)}));
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "parameters": of_path.chain(of_query).collect::<Vec<_>>(),
        "responses": responses(endpoint),
    });
    // What cancels reads no body, and what is not implemented reads nothing.
    if endpoint.method == "post" && !matches!(endpoint.id, "CancelRun" | "CreateEnv") {
        operation["requestBody"] = json!({
            "required": endpoint.id != "RerunRun",
            "content": {"application/json": {"schema": body(endpoint)}},
        });
    }
    operation
}

fn paths(prefix: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths
            .entry(format!("{prefix}{}", endpoint.path))
            .or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint);
    }
    Value::Object(paths)
}

/// Where this is mounted: at two places.
fn prefix(req: &HttpRequest) -> &'static str {
    if req.path().starts_with("/api/") {
        "/api/v2"
    } else {
        "/v2"
    }
}

pub(super) async fn openapi(req: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "openapi": "3.1.0",
        "info": {"title": "Callboard, REST v2", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths(prefix(&req)),
        "components": {"schemas": {
            "Answer": {
                "type": "object",
                "required": ["metadata"],
                "description": "Members that are zero, false or empty are left out.",
                "properties": {
                    "data": {},
                    "metadata": {"type": "object", "required": ["fetchedAt"], "properties": {"fetchedAt": {"type": "string", "format": "date-time"}}},
                    "page": {"type": "object", "properties": {
                        "cursor": {"type": "string"}, "hasMore": {"type": "boolean"}, "limit": {"type": "integer"},
                    }},
                },
            },
            "Errors": {
                "type": "object",
                "required": ["errors"],
                "properties": {"errors": {"type": "array", "items": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
                }}},
            },
        }},
    }))
}

pub(super) async fn operations(req: HttpRequest) -> HttpResponse {
    let prefix = prefix(&req);
    let operations = ENDPOINTS.iter().map(|endpoint| {
        json!({
            "operationId": endpoint.id,
            "method": endpoint.method.to_uppercase(),
            "path": format!("{prefix}{}", endpoint.path),
            "summary": endpoint.summary,
        })
    });
    HttpResponse::Ok().json(json!({"operations": operations.collect::<Vec<_>>()}))
}
