//! Spans of users' own, hung into a run's trace.
//!
//! Where one belongs: below the step that was run when it was made, if its SDK says so; otherwise below the span that it names as
//! its parent; otherwise below the call that it was made in. The span that an SDK puts around a whole call is not shown: what is
//! below it takes its place. A parent that is not there, not yet or not any more, is passed over, and what names itself
//! as its parent in a circle hangs from the root.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_actors::domain::{SpanId, SpanOutcome, UserSpan};

use super::SpanStatus;
use super::tree::Node;

/// Spans within spans, at the most: deeper ones are shown beside each other.
const DEEPEST: usize = 64;

/// A place in the tree: which child, from the root downwards.
type Path = Vec<usize>;

/// What a span hangs from.
#[derive(Clone)]
enum Parent {
    Server(Path),
    User(usize),
}

/// Hangs spans into the tree.
pub(super) fn attach(root: &mut Node, spans: Vec<UserSpan>) {
    if spans.is_empty() {
        return;
    }
    let mut hanging = Hanging::new(root, spans.into_iter().map(Arc::new).collect());
    let mut trees: Vec<(Path, Node)> = Vec::new();
    for (place, parent) in hanging.parents.clone().into_iter().enumerate() {
        if let Some(Parent::Server(path)) = parent {
            trees.extend(hanging.take(place, 0).map(|node| (path, node)));
        }
    }
    // What is left hangs from itself.
    for place in 0..hanging.spans.len() {
        trees.extend(hanging.take(place, 0).map(|node| (Path::new(), node)));
    }
    for (path, node) in trees {
        let above = path.iter().fold(&mut *root, |node, place| &mut node.children[*place]);
        above.children.push(node);
    }
}

struct Hanging {
    spans: Vec<Arc<UserSpan>>,
    /// Of each span that is shown.
    parents: Vec<Option<Parent>>,
    /// Of each span, in their order.
    children: Vec<Vec<usize>>,
    /// Whether it has its place.
    taken: Vec<bool>,
}

impl Hanging {
    fn new(root: &Node, spans: Vec<Arc<UserSpan>>) -> Self {
        let server = Server::of(root);
        let by_id: HashMap<SpanId, usize> = spans.iter().enumerate().map(|(place, span)| (span.id, place)).collect();
        let parent = |span: &UserSpan| {
            if let Some(path) = span.of_step.and_then(|id| server.step(span, id)) {
                return Parent::Server(path);
            }
            let named = span.parent.filter(|_| !span.is_wrapper()).and_then(|id| by_id.get(&id));
            match named.map(|place| (*place, &spans[*place])) {
                Some((_, wrapper)) if wrapper.is_wrapper() => Parent::Server(server.call(wrapper)),
                Some((place, _)) => Parent::User(place),
                None => Parent::Server(server.call(span)),
            }
        };
        let parents: Vec<_> = spans
            .iter()
            .map(|span| (!span.is_wrapper()).then(|| parent(span)))
            .collect();
        let mut children = vec![Vec::new(); spans.len()];
        for (place, of) in parents.iter().enumerate() {
            if let Some(Parent::User(parent)) = of {
                children[*parent].push(place);
            }
        }
        Self {
            taken: vec![false; spans.len()],
            spans,
            parents,
            children,
        }
    }

    /// The span with those below it, once, if it is shown.
    fn take(&mut self, place: usize, depth: usize) -> Option<Node> {
        if self.parents[place].is_none() || std::mem::replace(&mut self.taken[place], true) {
            return None;
        }
        let mut node = node(&self.spans[place]);
        if depth < DEEPEST {
            for below in std::mem::take(&mut self.children[place]) {
                node.children.extend(self.take(below, depth + 1));
            }
        }
        Some(node)
    }
}

/// The server's own spans.
struct Server {
    by_id: HashMap<String, Path>,
    by_step: HashMap<String, Path>,
    /// By step and attempt.
    attempts: HashMap<(String, u32), Path>,
}

impl Server {
    fn of(root: &Node) -> Self {
        let mut server = Self {
            by_id: HashMap::new(),
            by_step: HashMap::new(),
            attempts: HashMap::new(),
        };
        server.visit(root, &Path::new());
        server
    }

    fn visit(&mut self, node: &Node, path: &Path) {
        self.by_id.insert(node.id.clone(), path.clone());
        match (&node.step_id, node.attempt) {
            (Some(step), Some(attempt)) => drop(self.attempts.insert((step.clone(), attempt), path.clone())),
            (Some(step), None) => drop(self.by_step.insert(step.clone(), path.clone())),
            (None, _) => {}
        }
        for (place, child) in node.children.iter().enumerate() {
            self.visit(child, &[path.as_slice(), &[place]].concat());
        }
    }

    /// The step's span with this id, or that of the attempt at it.
    fn step(&self, span: &UserSpan, id: SpanId) -> Option<Path> {
        let step = self.by_id.get(&id.to_string())?;
        let attempt = span.step.as_ref().zip(span.attempt);
        let attempt = attempt.and_then(|(step, attempt)| self.attempts.get(&(step.to_string(), attempt)));
        Some(attempt.unwrap_or(step).clone())
    }

    /// The span of the call that a span was made in, or of the step that was run, or of the run.
    fn call(&self, span: &UserSpan) -> Path {
        let call = span.of_call.and_then(|id| self.by_id.get(&id.to_string()));
        let step = || self.by_step.get(span.step.as_ref()?.as_str());
        call.or_else(step).cloned().unwrap_or_default()
    }
}

fn node(span: &Arc<UserSpan>) -> Node {
    let status = match span.outcome {
        SpanOutcome::Error => SpanStatus::Failed,
        SpanOutcome::Ok | SpanOutcome::Unset => SpanStatus::Completed,
    };
    Node {
        attempts: span.attempt.unwrap_or(0),
        started_at: Some(span.start()),
        ended_at: Some(span.end()),
        userland: Some(Arc::clone(span)),
        ..Node::new(span.id, span.name.clone(), status, span.start())
    }
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::{StepId, Timestamp};
    use serde_json::json;

    use super::*;

    fn server(id: SpanId, step: Option<&str>, attempt: Option<u32>, children: Vec<Node>) -> Node {
        Node {
            id: id.to_string(),
            name: step.unwrap_or("Run").to_owned(),
            step_id: step.map(str::to_owned),
            attempt,
            userland: None,
            children,
            ..node(&Arc::new(span("unused", None)))
        }
    }

    fn id(name: &str) -> SpanId {
        SpanId::derive(name.as_bytes())
    }

    fn span(name: &str, parent: Option<&str>) -> UserSpan {
        let span = json!({"id": id(name), "parent": parent.map(id), "name": name, "kind": "INTERNAL", "started_at": 5_000_000,
            "ended_at": 9_000_000, "outcome": "unset", "scope": "lib"});
        serde_json::from_value(span).expect("a span")
    }

    /// A run with the step `a`, which took two attempts, and the step `b`.
    fn tree() -> Node {
        let (a, b) = (StepId::from("a"), StepId::from("b"));
        let attempts = [0, 1].map(|number| server(SpanId::of_attempt(&a, number), Some("a"), Some(number), Vec::new()));
        let steps = vec![
            server(SpanId::of_step(&a), Some("a"), None, attempts.to_vec()),
            server(SpanId::of_step(&b), Some("b"), None, Vec::new()),
        ];
        server(id("root"), None, None, steps)
    }

    /// The names below a place.
    fn below(root: &Node, path: &[usize]) -> Vec<String> {
        let node = path.iter().fold(root, |node, place| &node.children[*place]);
        node.children.iter().map(|child| child.name.clone()).collect()
    }

    fn in_step(mut span: UserSpan, step: &str, attempt: u32) -> UserSpan {
        let step = StepId::from(step);
        span.of_step = Some(SpanId::of_step(&step));
        span.attempt = Some(attempt);
        span.step = Some(step);
        span
    }

    #[test]
    fn a_step_goes_before_a_parent_and_a_parent_before_the_call() {
        let mut wrapper = span("inngest.execution", None);
        wrapper.scope = "inngest".to_owned();
        wrapper.of_call = Some(SpanId::of_step(&StepId::from("b")));
        let spans = vec![
            span("deeper", Some("in b")),
            wrapper.clone(),
            in_step(span("in a", Some("inngest.execution")), "a", 1),
            in_step(span("in b", Some("inngest.execution")), "b", 0),
            span("in the call", Some("inngest.execution")),
            span("of nothing", Some("never sent")),
        ];
        let mut root = tree();
        attach(&mut root, spans);
        assert_eq!(below(&root, &[0, 1]), ["in a"], "below the attempt");
        assert_eq!(below(&root, &[1]), ["in b", "in the call"]);
        assert_eq!(below(&root, &[1, 0]), ["deeper"]);
        assert_eq!(below(&root, &[]), ["a", "b", "of nothing"]);
        assert_eq!(root.children[2].started_at, Some(Timestamp::from_millis(5)));
    }

    #[test]
    fn a_circle_hangs_from_the_root_and_a_chain_has_an_end() {
        let mut root = tree();
        let circle = vec![span("x", Some("y")), span("y", Some("x")), span("z", Some("z"))];
        attach(&mut root, circle);
        assert_eq!(below(&root, &[]), ["a", "b", "x", "z"]);
        assert_eq!(below(&root, &[2]), ["y"]);

        let mut root = tree();
        let name = |number: usize| format!("n{number}");
        let chain = (0..1_000).map(|number| span(&name(number), number.checked_sub(1).map(name).as_deref()));
        attach(&mut root, chain.collect());
        let depth = |node: &Node| {
            let mut depth = 0;
            let mut node = node;
            while let Some(child) = node.children.first() {
                (node, depth) = (child, depth + 1);
            }
            depth
        };
        assert_eq!(depth(&root.children[2]), DEEPEST);
        let count = |node: &Node| -> usize {
            let mut all = vec![node];
            let mut count = 0;
            while let Some(node) = all.pop() {
                count += 1;
                all.extend(&node.children);
            }
            count
        };
        assert_eq!(count(&root), 5 + 1_000);
    }
}
