//! Steps, one after the other and side by side.

use rstest::rstest;
use serde_json::json;

use crate::support::sdk::Sdk;
use crate::support::stage::Stage;

#[rstest]
fn hello(#[values(Sdk::Ts4, Sdk::Ts3, Sdk::Python)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let run = stage
        .server
        .complete(&json!({"name": "test/hello", "data": {"name": "Ada"}}));
    assert_eq!(run["output"], json!({"hello": "Ada"}));
}
