//! From source text to our tree: the `cel` crate parses, this file resolves.
//!
//! Promises that unknown names, unknown functions, wrong argument counts and too deep trees are
//! compile errors with a position. Never expands macros: the parser is built without any, so that
//! `exists` and its siblings stay calls that can be rendered back to source.

use super::ast::{Binary, Function, Literal, MAX_DEPTH, Macro, MacroKind, Node, Style, TYPE_NAMES};
use super::error::CompileError;
use super::number::Number;
use super::shape;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use std::sync::Arc;

/// Parses and resolves a source.
pub(super) fn compile(source: &str, roots: &[&str], limits: shape::Limits) -> Result<Node, CompileError> {
    shape::check(source, limits)?;
    let parser = cel::Env::default().with_optional_support(false).parser();
    let (tree, positions) = parser
        // Repairs of a broken source only add more errors to the first one.
        .error_recovery_limit(2)
        .parse_with_source_info(source)
        .map_err(|errors| CompileError::rendered(errors.to_string()))?;
    let mut lowering = Lowering {
        source,
        roots,
        positions,
        locals: Vec::new(),
        depth: 0,
    };
    lowering.node(&tree)
}

struct Lowering<'a> {
    source: &'a str,
    roots: &'a [&'a str],
    positions: SourceInfo,
    locals: Vec<Arc<str>>,
    depth: usize,
}

impl Lowering<'_> {
    fn error(&self, at: &IdedExpr, message: impl AsRef<str>) -> CompileError {
        match self.positions.offset_for(at.id) {
            Some((start, _)) => CompileError::at(self.source, start as usize, message),
            None => CompileError::whole(message),
        }
    }

    fn node(&mut self, expr: &IdedExpr) -> Result<Node, CompileError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(expr, "the expression is nested too deeply"));
        }
        let node = match &expr.expr {
            Expr::Literal(value) => Ok(Node::Literal(literal(value))),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => {
                let operand = self.boxed(&select.operand)?;
                Ok(Node::Select(operand, select.field.as_str().into()))
            }
            Expr::List(list) => Ok(Node::List(self.nodes(&list.elements)?)),
            Expr::Map(map) => self.map(map.entries.iter().map(|entry| &entry.expr), expr),
            Expr::Call(call) => self.call(expr, call),
            Expr::Struct(message) => {
                let text = format!("undeclared reference to '{}' (in container '')", message.type_name);
                Err(self.error(expr, text))
            }
            Expr::Comprehension(_) | Expr::Unspecified => Err(self.error(expr, "Syntax error: not an expression")),
        }?;
        self.depth -= 1;
        Ok(node)
    }

    fn boxed(&mut self, expr: &IdedExpr) -> Result<Box<Node>, CompileError> {
        self.node(expr).map(Box::new)
    }

    fn nodes(&mut self, exprs: &[IdedExpr]) -> Result<Vec<Node>, CompileError> {
        exprs.iter().map(|expr| self.node(expr)).collect()
    }

    fn name(&self, expr: &IdedExpr, name: &str) -> Result<Node, CompileError> {
        if let Some(slot) = self.locals.iter().rposition(|local| &**local == name) {
            return Ok(Node::Local(name.into(), slot));
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        if self.roots.contains(&name) {
            return Ok(Node::Root(name.into()));
        }
        if let Some(type_name) = TYPE_NAMES.iter().find(|known| **known == name) {
            return Ok(Node::Type(type_name));
        }
        let text = format!("undeclared reference to '{name}' (in container '')");
        Err(self.error(expr, text))
    }

    fn map<'e>(&mut self, entries: impl Iterator<Item = &'e EntryExpr>, expr: &IdedExpr) -> Result<Node, CompileError> {
        let mut nodes = Vec::new();
        for entry in entries {
            let EntryExpr::MapEntry(entry) = entry else {
                return Err(self.error(expr, "Syntax error: not a map entry"));
            };
            nodes.push((self.node(&entry.key)?, self.node(&entry.value)?));
        }
        Ok(Node::Map(nodes))
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<Node, CompileError> {
        let name = call.func_name.as_str();
        match (&call.target, call.args.as_slice()) {
            (None, [left, right]) => {
                if let Some(operator) = binary(name) {
                    return Ok(Node::Binary(operator, self.boxed(left)?, self.boxed(right)?));
                }
                match name {
                    operators::LOGICAL_AND => return Ok(Node::And(self.row(name, call)?)),
                    operators::LOGICAL_OR => return Ok(Node::Or(self.row(name, call)?)),
                    operators::INDEX => {
                        return Ok(Node::Index(self.boxed(left)?, self.boxed(right)?));
                    }
                    _ => {}
                }
            }
            (None, [operand]) => match name {
                operators::LOGICAL_NOT => return Ok(Node::Not(self.boxed(operand)?)),
                operators::NEGATE => return Ok(Node::Negate(self.boxed(operand)?)),
                operators::HAS => {
                    let Expr::Select(select) = &operand.expr else {
                        return Err(self.error(operand, "invalid argument to has() macro"));
                    };
                    let inner = self.boxed(&select.operand)?;
                    return Ok(Node::Has(inner, select.field.as_str().into()));
                }
                _ => {}
            },
            (None, [condition, then, otherwise]) if name == operators::CONDITIONAL => {
                let branches = [self.node(condition)?, self.node(then)?, self.node(otherwise)?];
                return Ok(Node::Conditional(Box::new(branches)));
            }
            (Some(target), arguments) => {
                if let Some(kind) = MacroKind::named(name, arguments.len()) {
                    return self.macro_call(kind, target, arguments);
                }
            }
            _ => {}
        }
        self.function(expr, call)
    }

    /// The operands of a row of the same logical operator; the parser makes a balanced tree of it.
    fn row(&mut self, name: &str, call: &CallExpr) -> Result<Vec<Node>, CompileError> {
        let mut operands = Vec::new();
        for argument in &call.args {
            match &argument.expr {
                Expr::Call(inner) if inner.target.is_none() && inner.func_name == name => {
                    operands.append(&mut self.row(name, inner)?);
                }
                _ => operands.push(self.node(argument)?),
            }
        }
        Ok(operands)
    }

    fn macro_call(&mut self, kind: MacroKind, target: &IdedExpr, arguments: &[IdedExpr]) -> Result<Node, CompileError> {
        let Expr::Ident(variable) = &arguments[0].expr else {
            return Err(self.error(&arguments[0], "argument must be a simple name"));
        };
        let range = self.node(target)?;
        let variable: Arc<str> = variable.as_str().into();
        let slot = self.locals.len();
        self.locals.push(Arc::clone(&variable));
        let filter = match arguments {
            [_, filter, _] => Some(self.node(filter)?),
            _ => None,
        };
        let body = self.node(&arguments[arguments.len() - 1])?;
        self.locals.pop();
        Ok(Node::Macro(Box::new(Macro {
            kind,
            range,
            variable,
            slot,
            filter,
            body,
        })))
    }

    fn function(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<Node, CompileError> {
        let name = call.func_name.strip_prefix('.').unwrap_or(&call.func_name);
        let wanted = if call.target.is_some() {
            Style::Member
        } else {
            Style::Global
        };
        let function =
            Function::named(name).filter(|function| function.style() == wanted || function.style() == Style::Either);
        let Some(function) = function else {
            let text = format!("undeclared reference to '{name}' (in container '')");
            return Err(self.error(expr, text));
        };
        let receiver = call.target.as_deref();
        let count = call.args.len() + usize::from(receiver.is_some());
        if !function.arity().contains(&count) {
            let text = format!("found no matching overload for '{name}': wrong number of arguments");
            return Err(self.error(expr, text));
        }
        let mut arguments = Vec::with_capacity(count);
        for argument in receiver.into_iter().chain(&call.args) {
            arguments.push(self.node(argument)?);
        }
        Ok(constant_json(function, &arguments).unwrap_or(Node::Call(function, arguments)))
    }
}

/// `json_parse` of a constant is done once, here: it is how bound expressions spell composite data.
fn constant_json(function: Function, arguments: &[Node]) -> Option<Node> {
    match (function, arguments) {
        (Function::JsonParse, [Node::Literal(Literal::Text(text))]) => {
            let value = serde_json::from_str(text).ok()?;
            Some(Node::Literal(Literal::from_json(&value)))
        }
        _ => None,
    }
}

fn literal(value: &LiteralValue) -> Literal {
    match value {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(truth) => Literal::Bool(*truth.inner()),
        LiteralValue::Int(int) => Literal::Number(Number::Int(*int.inner())),
        LiteralValue::UInt(uint) => Literal::Number(Number::Uint(*uint.inner())),
        LiteralValue::Double(double) => Literal::Number(Number::Double(*double.inner())),
        LiteralValue::String(text) => Literal::Text(text.inner().into()),
        LiteralValue::Bytes(bytes) => Literal::Bytes(bytes.inner().into()),
    }
}

fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        operators::EQUALS => Binary::Equal,
        operators::NOT_EQUALS => Binary::NotEqual,
        operators::LESS => Binary::Less,
        operators::LESS_EQUALS => Binary::LessEqual,
        operators::GREATER => Binary::Greater,
        operators::GREATER_EQUALS => Binary::GreaterEqual,
        operators::IN => Binary::In,
        operators::ADD => Binary::Add,
        operators::SUBSTRACT => Binary::Subtract,
        operators::MULTIPLY => Binary::Multiply,
        operators::DIVIDE => Binary::Divide,
        operators::MODULO => Binary::Remainder,
        _ => return None,
    })
}
