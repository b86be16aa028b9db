//! What commands that talk to a running server share: where it is, with which key, and what it means by its answer.
//!
//! Never: prints a key.

use std::time::Duration;

use awc::http::header::AUTHORIZATION;
use awc::http::{Method, StatusCode};
use clap::Args;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::error::{Code, Problem};

const PATIENCE: Duration = Duration::from_secs(5);

/// Which server, and the key to it.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8288")]
    pub url: String,
    /// An API key, should the server ask for one.
    #[arg(long, value_name = "KEY", env = "CALLBOARD_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The signing key, in place of an API key.
    #[arg(long, value_name = "KEY", env = "INNGEST_SIGNING_KEY", hide_env_values = true)]
    pub signing_key: Option<String>,
}

/// Which server, and what becomes of its answer.
#[derive(Debug, Clone, Args)]
pub struct AnswerArgs {
    /// Print the answer as it is.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Which page of a list.
#[derive(Debug, Clone, Args)]
pub struct PageArgs {
    /// At most so many, 1 to 100
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub limit: u32,
    /// Go on behind the page that ended with this one
    #[arg(long, value_name = "ID")]
    pub cursor: Option<String>,
}

impl PageArgs {
    /// The same as parameters of a request.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let cursor = self.cursor.clone().map(|cursor| ("cursor", cursor));
        cursor.into_iter().chain([("limit", self.limit.to_string())])
    }
}

/// Arguments of a command that lists a page of something.
#[derive(Debug, Args)]
pub struct PagedArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub page: PageArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub answer: AnswerArgs,
}

impl PagedArgs {
    /// The page at this path of what the filter means, as the server tells it or for people.
    ///
    /// # Errors
    /// As [`ServerArgs::get`].
    pub(super) async fn list<'a>(
        &self,
        path: &str,
        filter: impl Iterator<Item = (&'static str, &'a str)>,
        render: impl FnOnce(&Value) -> String,
    ) -> Result<String, Problem> {
        let query = Serializer::new(String::new())
            .extend_pairs(filter)
            .extend_pairs(self.page.pairs())
            .finish();
        let page = self.answer.server.get(&format!("{path}?{query}")).await?;
        Ok(if self.answer.json {
            format!("{page:#}\n")
        } else {
            render(&page)
        })
    }
}

impl ServerArgs {
    /// Asks the server for what is at this path.
    ///
    /// # Errors
    /// [`Code::Unauthorized`] if it wants another key, what the server answers if it refuses, and
    /// [`Code::NoAnswer`] if that is none of its errors.
    pub async fn get(&self, path: &str) -> Result<Value, Problem> {
        self.send(Method::GET, path).await
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn send(&self, method: Method, path: &str) -> Result<Value, Problem> {
        self.exchange(method, path, None).await
    }

    /// Sends a request with this body.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn send_json(&self, method: Method, path: &str, body: &Value) -> Result<Value, Problem> {
        self.exchange(method, path, Some(body)).await
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Problem> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let no_answer = |why: String| Problem::new(Code::NoAnswer, format!("{url}: {why}"));
        let client = awc::Client::builder().timeout(PATIENCE).finish();
        let mut request = client.request(method, &url);
        let key = [&self.api_key, &self.signing_key].into_iter().flatten();
        let key = key.map(|key| key.trim()).find(|key| !key.is_empty());
        if let Some(key) = key {
            request = request.insert_header((AUTHORIZATION, format!("Bearer {key}")));
        }
        let sent = match body {
            Some(body) => request.send_json(body),
            None => request.send(),
        };
        let mut answer = sent.await.map_err(|error| no_answer(error.to_string()))?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            let what = if key.is_some() { "another" } else { "a" };
            let message = format!("{url}: the server wants {what} key; give it with --api-key or CALLBOARD_API_KEY");
            return Err(Problem::new(Code::Unauthorized, message));
        }
        let body = answer
            .json::<Value>()
            .await
            .map_err(|error| no_answer(error.to_string()))?;
        if status.is_success() {
            return Ok(body);
        }
        let message = body["error"]["message"].as_str().unwrap_or("(no message)");
        // What the server says is the matter, if this version knows it.
        let code = body["error"]["code"].as_str();
        match Code::ALL.iter().find(|known| code == Some(known.as_str())) {
            Some(code) => Err(Problem::new(*code, message)),
            None => Err(no_answer(format!("{status}, {message}"))),
        }
    }
}
