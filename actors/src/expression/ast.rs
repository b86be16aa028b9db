//! The expression tree that is evaluated, bound and rendered.
//!
//! Promises to be fully resolved: every name is a root, a local or a function known at compile time.
//! Never deeper than [`MAX_DEPTH`], so walking it with recursion is safe.

use super::number::Number;
use std::sync::Arc;

/// Deepest tree that compiles.
pub(super) const MAX_DEPTH: usize = 128;

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Literal(Literal),
    /// A variable of the scope, such as `event`.
    Root(Arc<str>),
    /// The variable of an enclosing macro, with its place on the stack of locals.
    Local(Arc<str>, usize),
    /// A type used as a value, as in `type(x) == int`.
    Type(&'static str),
    Select(Box<Node>, Arc<str>),
    Index(Box<Node>, Box<Node>),
    /// `has(operand.field)`.
    Has(Box<Node>, Arc<str>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    /// All operands of a row of `&&`: always two or more.
    And(Vec<Node>),
    /// All operands of a row of `||`: always two or more.
    Or(Vec<Node>),
    /// Condition, then, otherwise.
    Conditional(Box<[Node; 3]>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// Arguments include the receiver, first, if the function is a member.
    Call(Function, Vec<Node>),
    Macro(Box<Macro>),
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// A list or an object that came from event data.
    Json(Arc<serde_json::Value>),
}

impl Literal {
    pub(super) fn from_json(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(truth) => Self::Bool(*truth),
            serde_json::Value::Number(number) => Self::Number(Number::from_json(number)),
            serde_json::Value::String(text) => Self::Text(text.as_str().into()),
            composite => Self::Json(Arc::new(composite.clone())),
        }
    }
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Macro {
    pub(super) kind: MacroKind,
    pub(super) range: Node,
    pub(super) variable: Arc<str>,
    /// Place of the variable on the stack of locals.
    pub(super) slot: usize,
    /// The condition of `map` with three arguments.
    pub(super) filter: Option<Node>,
    pub(super) body: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MacroKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl MacroKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exists => "exists",
            Self::ExistsOne => "exists_one",
            Self::Map => "map",
            Self::Filter => "filter",
        }
    }

    pub(super) fn named(name: &str, arguments: usize) -> Option<Self> {
        Some(match (name, arguments) {
            ("all", 2) => Self::All,
            ("exists", 2) => Self::Exists,
            ("exists_one" | "existsOne", 2) => Self::ExistsOne,
            ("map", 2 | 3) => Self::Map,
            ("filter", 2) => Self::Filter,
            _ => return None,
        })
    }
}

/// Operators with two operands that are both always evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Binary {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// How a function may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Global,
    Member,
    Either,
}

macro_rules! functions {
    ($($variant:ident $name:literal $style:ident $min:literal ..= $max:literal;)*) => {
        /// Every function of the dialect.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Function { $($variant,)* }

        impl Function {
            /// All of them, for lookups and tests.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(super) fn style(self) -> Style {
                match self { $(Self::$variant => Style::$style,)* }
            }

            /// How many arguments it takes, the receiver included.
            pub(super) fn arity(self) -> std::ops::RangeInclusive<usize> {
                match self { $(Self::$variant => $min..=$max,)* }
            }
        }
    };
}

functions! {
    Size "size" Either 1..=1;
    StartsWith "startsWith" Member 2..=2;
    EndsWith "endsWith" Member 2..=2;
    Contains "contains" Member 2..=2;
    Matches "matches" Either 2..=2;
    Int "int" Global 1..=1;
    Uint "uint" Global 1..=1;
    Double "double" Global 1..=1;
    String "string" Global 1..=1;
    Bool "bool" Global 1..=1;
    Bytes "bytes" Global 1..=1;
    Type "type" Global 1..=1;
    Dyn "dyn" Global 1..=1;
    Timestamp "timestamp" Global 1..=1;
    Duration "duration" Global 1..=1;
    Lowercase "lowercase" Global 1..=1;
    Uppercase "uppercase" Global 1..=1;
    Base64Decode "b64decode" Global 1..=1;
    JsonParse "json_parse" Global 1..=1;
    Date "date" Global 1..=1;
    Now "now" Global 0..=0;
    NowPlus "now_plus" Global 1..=1;
    NowMinus "now_minus" Global 1..=1;
    GetFullYear "getFullYear" Member 1..=2;
    GetMonth "getMonth" Member 1..=2;
    GetDate "getDate" Member 1..=2;
    GetDayOfMonth "getDayOfMonth" Member 1..=2;
    GetDayOfWeek "getDayOfWeek" Member 1..=2;
    GetDayOfYear "getDayOfYear" Member 1..=2;
    GetHours "getHours" Member 1..=2;
    GetMinutes "getMinutes" Member 1..=2;
    GetSeconds "getSeconds" Member 1..=2;
    GetMilliseconds "getMilliseconds" Member 1..=2;
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|function| function.name() == name)
    }
}

/// The types that are values under their own name.
pub(super) const TYPE_NAMES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];
