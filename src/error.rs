//! The catalogue of errors that an operator or a user of the API can see.
//!
//! Each has a stable code, a cause and a remedy. `docs/errors.md` is this catalogue printed ([`page`]; a test compares
//! the two). A code is never given a new meaning; one that is no longer used keeps its number.

use std::fmt::{self, Write as _};

use callboard_actors::engine::rerun::FromStepError;
use callboard_actors::orchestrator::Refusal;
use callboard_actors::ports::StoreError;
use callboard_actors::rerun::RerunError;
use serde_json::Value;

use crate::sdk::RegistrationError;

macro_rules! catalogue {
    ($($name:ident = $number:literal, $status:literal, $title:literal, $cause:literal, $remedy:literal;)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $title] $name = $number,)*
        }

        impl Code {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As users see it: `CB-1001`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => concat!("CB-", $number)),* }
            }

            /// The HTTP status that goes with it; 0 for errors that never leave the command line.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// A few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// Why it happens.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause),* }
            }

            /// What to do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

catalogue! {
    MalformedJson = 1001, 400, "The body is not JSON",
        "The request's body does not parse, or a member has another type than the one documented.",
        "Send a JSON body; the message names the line and column.";
    NotUtf8 = 1002, 400, "The body is not UTF-8",
        "JSON has to be UTF-8, and the request's body has bytes that are not.",
        "Encode the body as UTF-8.";
    TooDeep = 1003, 400, "The body is nested too deeply",
        "Objects and arrays are nested more than 127 levels deep.",
        "Flatten the data.";
    TooLarge = 1004, 413, "The body is too large",
        "The request's body is larger than `limits.request_bytes`.",
        "Send less at a time, or raise `limits.request_bytes`.";
    BodyCutShort = 1005, 400, "The body was cut short",
        "The connection broke off, or the body is not as long as its headers say.",
        "Send the request again.";
    EncodedBody = 1006, 415, "The body is encoded in a way that is not taken",
        "The request has a `Content-Encoding`, or spans have a `Content-Type` that is neither JSON nor protobuf.",
        "Send the body uncompressed (spans may be compressed with gzip), and say what it is.";
    InvalidParameter = 1007, 400, "A parameter is invalid",
        "A part of the path or of the query is not of the expected form.",
        "The message names the parameter and what it may be.";
    UnknownRoute = 1008, 404, "There is nothing at this address",
        "No endpoint has this path.",
        "Check the path; `GET /api/v1/openapi.json` lists the endpoints.";
    MethodNotAllowed = 1009, 405, "This method is not allowed here",
        "The endpoint exists, but not for this method.",
        "Use one of the methods of the `Allow` header.";
    Unauthorized = 1010, 401, "Authentication failed",
        "The server has keys, and the request carries none of them, or one that has expired or was revoked.",
        "Send `Authorization: Bearer <key>` with a key that `callboard keys create` has made, one of `keys.api`, or the signing key or its hash. SDKs do when `INNGEST_SIGNING_KEY` is set, commands with `--api-key` or `CALLBOARD_API_KEY`.";
    WrongServerKind = 1011, 400, "The app expects another kind of server",
        "The app runs in development mode and the server does not, or the other way round.",
        "Set `INNGEST_DEV=1` in the app for `callboard dev`, `INNGEST_DEV=0` otherwise.";
    InvalidData = 1012, 400, "The data can't be taken",
        "The data holds what can't be stored, such as a number out of range.",
        "The message says what; change that.";
    BodyTooSlow = 1013, 408, "The body took too long",
        "The request's body did not arrive within a minute.",
        "Send the request again; check the connection if it lasts.";
    NotImplemented = 1014, 501, "This server does not do that",
        "The endpoint is one of the original's hosted service, and there is nothing like it here.",
        "Do without; docs/compatibility.md has what there is instead.";

    Forbidden = 1015, 403, "The key may not do this",
        "The key that the request carries is good for less: it has another scope than the one that this needs.",
        "Use a key with the scope that the message names; `callboard keys list` shows which have it.";

    NotAnEvent = 1101, 400, "The body is not an event",
        "Events are sent as one JSON object, or as an array of them.",
        "Send `{\"name\":…,\"data\":{…}}` or an array of such objects.";
    InvalidEvent = 1102, 400, "An event is invalid",
        "An event has no name, a reserved one, data that is no object, a time out of range, or is too large.",
        "Correct the event; the message says what is wrong. Events before it in the same request to `/e/` were accepted.";
    TooManyEvents = 1103, 400, "There are too many events in one request",
        "A request holds at most 5,000 events.",
        "Send them in several requests.";
    EventKeyUnknown = 1104, 401, "The event key is unknown",
        "The one in the path is none of `keys.event`, and none that was made with the scope `events` and counts.",
        "Set `INNGEST_EVENT_KEY` in the sender to one of them; `callboard keys create <name> --scope events` makes one.";
    EventKeysMissing = 1105, 503, "No event keys are configured",
        "The server requires event keys and has none.",
        "Configure `keys.event`.";

    InvalidRegistration = 1201, 400, "The registration is invalid",
        "A function asks for something that can't be; nothing of the registration was stored.",
        "Correct the functions named in the message.";
    UnknownFunction = 1202, 404, "There is no such function",
        "No function has this slug or UUID, or a later registration has left it out.",
        "List the functions with `GET /api/v1/functions`; is the app registered?";
    UnknownApp = 1203, 404, "There is no such app",
        "No app has registered under this name or URL.",
        "List the apps with `GET /api/v1/apps`.";
    SyncFailed = 1204, 502, "The app could not be synced",
        "The app at this URL did not answer, or refused to register.",
        "Is the app running, and is this the URL that it serves its functions at? The message has its answer.";

    UnknownEvent = 1301, 404, "There is no such event",
        "No event has this id, or it is older than `retention.events`.",
        "Use the id that sending the event answered.";
    UnknownRun = 1302, 404, "There is no such run",
        "No run has this id, or it ended longer ago than `retention.finished_runs` allows.",
        "List the runs with `GET /api/v1/runs`.";
    RunEnded = 1303, 410, "The run's state is gone",
        "The run has ended or never was; its state is only served while it is under way.",
        "None: an app that asks for it is late, and its answer is not needed any more.";
    NoSignal = 1304, 404, "No run waits for this signal",
        "A signal reaches the run that waits for it at that moment, and none does.",
        "Send it when the run waits.";
    UnknownDeadLetter = 1305, 404, "There is no such dead letter",
        "No dead letter has this id: it was retried or discarded, or its run has ended otherwise.",
        "List the dead letters with `GET /api/v1/dead-letters`.";
    UnknownStep = 1306, 404, "The run has no such step",
        "No step of the run has this id or name.",
        "Look at the run with `GET /api/v1/runs/{id}`: `steps` lists ids and names.";
    AmbiguousStep = 1307, 409, "Several steps have this name",
        "The name is that of several steps of the run, as in a loop.",
        "Give the id of one; the message lists them.";
    MissingOutput = 1308, 409, "The result of an earlier step is missing",
        "A run that begins with a step keeps the results of all steps before it, and one of those is not there.",
        "Begin with an earlier step, or do the whole run again.";
    InvalidStepInput = 1309, 400, "The input of the step is invalid",
        "What a step is given in place of its arguments is no JSON array, or is larger than 4 MiB.",
        "Send an array with an element for each argument.";
    EditedInputUnsupported = 1310, 409, "The SDK does not take edited input",
        "The SDK of the run's app would take the input for the step's result. The TypeScript SDK takes it.",
        "Begin with the step without `input`, or with another event.";
    NotRerun = 1311, 409, "The run can't be done again now",
        "Its function is archived or being drained, or its singleton has a run that has not ended.",
        "The message says which: register the function, resume it, or wait for that run.";
    UnknownOperation = 1312, 404, "There is no such operation",
        "No operation has this id, or it ended more than 90 days ago.",
        "List the operations with `GET /api/v1/operations`.";
    UnknownGathering = 1313, 404, "There is no such debounce or batch",
        "No gathering of the function has this id: its run has started, or none has been started for a reason that its events tell.",
        "List those that are open with `GET /api/v1/functions/{id}/gatherings`.";

    InvalidReport = 1314, 400, "The report of steps is invalid",
        "What an app reports of a call under way is not of the expected form, or can't be reported before the call is over.",
        "None: the SDK answers the call with it instead. Report it if it is an official SDK's.";
    StaleCall = 1315, 409, "The call does not count any more",
        "An app reports steps of a call that was given up for lost, or whose run has ended. What it reports is not recorded.",
        "None: the SDK ends the call. The run goes on with the call that has taken its place.";
    StateTooLarge = 1316, 413, "The results of the run's steps are too large",
        "A step's result is larger than 4 MiB, or all of a run's together are larger than 32 MiB.",
        "Store large results elsewhere, and return where they are.";
    RunExists = 1317, 409, "The run exists",
        "An app has begun a run under an id that another request has.",
        "None: ids of runs are drawn at random. Look at how the app draws them if it lasts.";
    UnknownKey = 1318, 404, "There is no such key",
        "No key has this id, or it ended more than 90 days ago. Keys of the settings have none, and end with the settings.",
        "List the keys with `GET /api/v1/keys`.";
    TooManyKeys = 1319, 409, "There are too many keys",
        "An installation has at most 1,000 keys that are good for something.",
        "Revoke those that nobody uses; `last_used_at` tells.";

    RealtimeToken = 1401, 401, "A realtime token is asked for",
        "Who subscribes has to show what to: a token that was made for it. There is none, or it has expired.",
        "Get a token from `POST /v1/realtime/token` and connect with it within a minute; the SDKs do.";

    Overloaded = 2001, 503, "The server is overloaded",
        "As many events or bytes are on their way in as `limits` allows. Nothing of the request was kept.",
        "Try again after `Retry-After`; the SDKs do. If it lasts, send slower or raise `limits`.";
    Unavailable = 2002, 503, "The server is not accepting work",
        "It is starting, shutting down, or restarting a part of itself. Whether anything of the request was kept is not known.",
        "Try again after `Retry-After`, events with the same ids or seed; `callboard status` shows which part.";
    DatabaseUnavailable = 2003, 503, "The database is unavailable",
        "The database is busy or can't be reached. Whether anything of the request was kept is not known.",
        "Try again, events with the same ids or seed; check the database if it lasts.";
    DatabaseFull = 2004, 503, "The disk is full",
        "The database has no room left. Nothing of the request was kept.",
        "Make room in `data.dir`.";
    DatabaseRefused = 2005, 500, "The database refuses",
        "The database refuses this very request, and would again.",
        "Report it with the log lines of that moment.";
    DatabaseCorrupt = 2006, 500, "The database holds something unreadable",
        "What was read makes no sense: another version wrote it, or the file is damaged.",
        "Start the version that wrote it, or restore a backup.";
    Internal = 2007, 500, "Something went wrong inside",
        "A defect.",
        "Report it with the log lines of that moment.";

    AppUnreachable = 2101, 503, "An app can't be reached",
        "Most of an app's calls of late were not answered, or with 502, 503 or 504. Its circuit breaker is open: further calls wait, keeping their attempts, while a few show whether the app is back.",
        "See to the app: it is called again by itself, with more calls from wave to wave. `callboard status` and `GET /api/v1/apps` show when. `breaker.*`, or `PUT /api/v1/apps/{name}/breaker` for one app, changes when breakers open, or switches them off.";

    AddressNotAllowed = 2102, 403, "The address may not be asked",
        "A `step.fetch` or `step.ai.infer` asks for a host that has no public address, itself or by a redirect. The server may reach what who writes functions must not.",
        "Use a public address, or have the operator add the host's network to `fetch.allow`.";

    InvalidSettings = 3001, 0, "The settings are invalid",
        "A key is unknown, or a value is not of the expected form or out of range.",
        "Correct what is listed; `callboard config` shows each value and where it comes from.";
    UnreadableSettings = 3002, 0, "The settings file can't be read",
        "The file does not exist, or is neither TOML nor YAML.",
        "Check the path given by `--config`, and the line the message names.";
    NoAnswer = 3003, 0, "The server does not answer",
        "Nothing listens at this address, or it is not Callboard.",
        "Is it running? Give its address with `--url`.";
    PortTaken = 3004, 0, "The port can't be listened on",
        "Another process listens on the port, or the address is not one of this machine's.",
        "Choose another port with `--port`, or stop the other process; `--port 0` takes a free one.";
    DirectoryInUse = 3005, 0, "The data directory is in use",
        "Another instance runs on the same data directory; two would overwrite each other's work.",
        "Stop the other instance, or choose another directory with `--data-dir`.";
    NewerDatabase = 3006, 0, "The database is from a newer version",
        "A newer version of Callboard has upgraded it.",
        "Start the newer version again, or restore a backup from before the upgrade.";
    DamagedDatabase = 3007, 0, "The database is damaged",
        "The file is no database, or SQLite finds it damaged.",
        "Restore a backup, or choose another directory with `--data-dir`.";
    UnusableDirectory = 3008, 0, "The data directory can't be used",
        "It can't be made, read or written.",
        "Check that the directory and its parents exist and may be written by this user, and that the disk has room.";
    KeysRequired = 3009, 0, "Keys are required",
        "`callboard start` signs its calls, and serves nobody without a key; a key it needs is missing.",
        "Make one with `openssl rand -hex 32`. Apps get the same as `INNGEST_SIGNING_KEY` and `INNGEST_EVENT_KEY`. `callboard dev` needs none.";
    DatabaseUnreachable = 3010, 503, "The database does not answer",
        "No PostgreSQL answers at the host and port of `database.url`, or it is starting.",
        "Nothing, if it is on its way up: the connection is tried again. Else check the URL, the network and the server.";
    DatabaseAccess = 3011, 0, "The database lets us not in",
        "The user, the password or the database of `database.url` is wrong, or the user lacks a right.",
        "The message says which. Create the user and the database, and let the user create a schema in it.";
    UnsuitableDatabase = 3012, 0, "The database can't be used",
        "PostgreSQL is older than version 15, or the database has another encoding than UTF-8.",
        "The message says why. Upgrade the server, or create a database with `ENCODING 'UTF8'`.";
    QueueUnreachable = 3013, 503, "The queue does not answer",
        "No Redis answers at the host and port of `redis.url`, or it refuses us.",
        "Nothing, if it is on its way up: the connection is tried again, and nothing is lost meanwhile. Else check the URL, the network and the server.";
    OlderDatabase = 3014, 0, "The database has not been upgraded yet",
        "Its schema is older than this program's, or there is none yet, and `callboard doctor` upgrades nothing.",
        "Start a server on it once or, on PostgreSQL, run `callboard migrate`.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that somebody gets to see.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Problem {
    /// Which kind.
    pub code: Code,
    /// This very case, for people.
    pub message: String,
    /// Particulars for programs.
    pub details: Option<Value>,
}

impl Problem {
    /// A problem with this message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
        }
    }

    /// With particulars.
    #[must_use]
    pub fn with(mut self, details: impl Into<Value>) -> Self {
        self.details = Some(details.into());
        self
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code, code.title())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Unavailable(_) => Code::DatabaseUnavailable,
            StoreError::Full(_) => Code::DatabaseFull,
            StoreError::Refused(_) => Code::DatabaseRefused,
            StoreError::Corrupt(_) => Code::DatabaseCorrupt,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Overloaded => Self::new(Code::Overloaded, message),
            Refusal::Unavailable(_) => Self::new(Code::Unavailable, message),
            Refusal::Store(error) => error.into(),
            Refusal::Invalid(problems) => Self::new(Code::InvalidData, message).with(problems),
            Refusal::UnknownFunction(_) => Self::new(Code::UnknownFunction, message),
        }
    }
}

impl From<RerunError> for Problem {
    fn from(error: RerunError) -> Self {
        let code = match &error {
            RerunError::UnknownRun(_) => Code::UnknownRun,
            RerunError::Archived | RerunError::Skipped(..) => Code::NotRerun,
            RerunError::FromStep(FromStepError::Unknown(_)) => Code::UnknownStep,
            RerunError::FromStep(FromStepError::Ambiguous(..)) => Code::AmbiguousStep,
            RerunError::FromStep(FromStepError::MissingOutput(_)) => Code::MissingOutput,
            RerunError::FromStep(FromStepError::NoArray | FromStepError::TooLarge) => Code::InvalidStepInput,
            RerunError::NoEditedInput(_) => Code::EditedInputUnsupported,
            RerunError::Unavailable(_) => Code::Unavailable,
            RerunError::Store(error) => return error.clone().into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        let message = error.to_string();
        match error {
            RegistrationError::Syntax(_) => Self::new(Code::MalformedJson, message),
            RegistrationError::NoApp => Self::new(Code::InvalidRegistration, message),
            RegistrationError::Invalid(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Self::new(Code::InvalidRegistration, message).with(problems)
            }
        }
    }
}

/// The catalogue as the page `docs/errors.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Every error carries one of these codes, in the log and in the answer: as `error.code` on `/api/v1`, as `code` on the\n\
         routes that SDKs use. Messages may change from version to version, codes do not.\n",
    );
    for code in Code::ALL {
        let status = match code.status() {
            0 => String::new(),
            status => format!(" (HTTP {status})"),
        };
        let _ = write!(
            page,
            "\n## {code}: {title}{status}\n\n{cause}\n\n**What to do.** {remedy}\n",
            title = code.title(),
            cause = code.cause(),
            remedy = code.remedy()
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_page_and_the_catalogue_agree() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, page()).expect("docs/ is writable");
        }
        let written = std::fs::read_to_string(path).expect("the page exists");
        assert!(
            written == page(),
            "docs/errors.md is out of date; `BLESS=1 cargo test the_page_and_the_catalogue_agree` rewrites it"
        );
    }

    #[test]
    fn codes_are_unique_and_ordered() {
        let numbers: Vec<u16> = Code::ALL.iter().map(|code| *code as u16).collect();
        assert!(numbers.is_sorted());
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
        for code in Code::ALL {
            assert_eq!(code.as_str(), format!("CB-{}", *code as u16));
            assert!(!code.cause().is_empty() && !code.remedy().is_empty());
        }
    }

    #[test]
    fn a_refusal_for_lack_of_room_is_worth_another_try() {
        for refusal in [
            Refusal::Overloaded,
            Refusal::Unavailable("draining"),
            Refusal::Store(StoreError::Unavailable("busy".to_owned())),
        ] {
            assert_eq!(Problem::from(refusal).code.status(), 503);
        }
    }
}
