//! What this API has, for programs: an OpenAPI document and a catalogue of operations, both made of the table of endpoints.

use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::{ENDPOINTS, Endpoint};

/// The parameters of a path, in their order.
fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn operation(endpoint: &Endpoint) -> Value {
    let of_path = placeholders(endpoint.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let of_query = endpoint
        .query
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}));
    let envelope =
        |name: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "parameters": of_path.chain(of_query).collect::<Vec<_>>(),
        "responses": {
            "200": {"description": "Done", "content": envelope("Answer")},
            "default": {"description": "Refused", "content": envelope("Errors")},
        },
    });
    if endpoint.method == "post" {
        let is_required = !matches!(endpoint.id, "CancelRun" | "RerunRun");
        let body = if endpoint.id == "CreateScores" {
            "array"
        } else {
            "object"
        };
        operation["requestBody"] = json!({
            "required": is_required,
            "content": {"application/json": {"schema": {"type": body}}},
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
                "description": "Members that are zero, false or empty are left out.",
                "properties": {
                    "data": {},
                    "metadata": {"type": "object", "properties": {"fetchedAt": {"type": "string", "format": "date-time"}}},
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
