//! Numbers: three representations that compare as one number line.
//!
//! Promises exact comparison (an integer never loses digits on its way to a double) and one text
//! per numeric value, whatever its representation. Never wraps: overflow is an error.

use super::error::EvalError;
use std::cmp::Ordering;

/// A number of an expression.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Int(i64),
    /// Written `5u`, or an integer of event data above the range of `Int`.
    Uint(u64),
    Double(f64),
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.compare(*other) == Some(Ordering::Equal)
    }
}

impl Number {
    pub(super) fn from_json(number: &serde_json::Number) -> Self {
        if let Some(int) = number.as_i64() {
            Self::Int(int)
        } else if let Some(uint) = number.as_u64() {
            Self::Uint(uint)
        } else {
            Self::Double(number.as_f64().unwrap_or(f64::NAN))
        }
    }

    pub(super) fn to_json(self) -> serde_json::Value {
        match self {
            Self::Int(int) => int.into(),
            Self::Uint(uint) => uint.into(),
            Self::Double(double) => double.into(),
        }
    }

    pub(super) fn type_name(self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
        }
    }

    /// The value as an exact integer, for whole numbers of up to 100 bits.
    pub(super) fn whole(self) -> Option<i128> {
        match self {
            Self::Int(int) => Some(int.into()),
            Self::Uint(uint) => Some(uint.into()),
            Self::Double(double) if double.fract() == 0.0 && double.abs() < 2f64.powi(100) => Some(double as i128),
            Self::Double(_) => None,
        }
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Uint(uint) => uint as f64,
            Self::Double(double) => double,
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self.as_f64() == 0.0
    }

    /// Order on the number line; `None` if one of them is not a number.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self.whole(), other.whole()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            (Some(left), None) => against_double(left, other.as_f64()),
            (None, Some(right)) => against_double(right, self.as_f64()).map(Ordering::reverse),
            (None, None) => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }

    /// Text that is the same for equal numbers: whole ones without a fraction.
    pub(super) fn text(self) -> String {
        match self.whole() {
            Some(whole) if whole.unsigned_abs() < 10u128.pow(21) => whole.to_string(),
            _ => format!("{:?}", self.as_f64()),
        }
    }

    /// Applies an arithmetic operator. Two integers stay integers, everything else is a double.
    pub(super) fn arithmetic(self, operator: Arithmetic, other: Self) -> Result<Self, EvalError> {
        use Number::{Double, Int, Uint};
        // Event data may spell whole numbers as doubles; a remainder is only defined for integers.
        let exact = match (self, other) {
            (Int(_) | Uint(_), Int(_) | Uint(_)) => true,
            _ => operator == Arithmetic::Remainder,
        };
        if !exact {
            let (left, right) = (self.as_f64(), other.as_f64());
            return Ok(Double(match operator {
                Arithmetic::Add => left + right,
                Arithmetic::Subtract => left - right,
                Arithmetic::Multiply => left * right,
                Arithmetic::Divide | Arithmetic::Remainder => left / right,
            }));
        }
        let (Some(left), Some(right)) = (self.whole(), other.whole()) else {
            return Err(EvalError::NoOverload {
                operation: operator.symbol(),
                types: format!("{}, {}", self.type_name(), other.type_name()),
            });
        };
        let result = match operator {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide | Arithmetic::Remainder if right == 0 => {
                return Err(EvalError::DivisionByZero);
            }
            Arithmetic::Divide => left.checked_div(right),
            Arithmetic::Remainder => left.checked_rem(right),
        };
        let overflow = EvalError::Overflow(operator.symbol());
        let result = result.ok_or_else(|| overflow.clone())?;
        let unsigned = matches!((self, other), (Uint(_), Uint(_)));
        match (i64::try_from(result), u64::try_from(result)) {
            (_, Ok(uint)) if unsigned => Ok(Uint(uint)),
            (Ok(int), _) if !unsigned => Ok(Int(int)),
            (_, Ok(uint)) if matches!(self, Uint(_)) || matches!(other, Uint(_)) => Ok(Uint(uint)),
            _ => Err(overflow),
        }
    }

    pub(super) fn negate(self) -> Result<Self, EvalError> {
        match self {
            Self::Double(double) => Ok(Self::Double(-double)),
            integer => Self::Int(0).arithmetic(Arithmetic::Subtract, integer),
        }
    }
}

/// Orders an integer against a double that is not whole, or too large to be an integer here.
fn against_double(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 2f64.powi(100) {
        return Some(if double > 0.0 {
            Ordering::Less
        } else {
            Ordering::Greater
        });
    }
    let floor = double.floor() as i128;
    Some(if integer <= floor {
        Ordering::Less
    } else {
        Ordering::Greater
    })
}

/// The operators of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}
