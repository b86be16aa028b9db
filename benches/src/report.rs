//! The one table a bench run ends with, and its verdict.
//!
//! Promises: every figure names its unit and, where there is one, the limit it has to keep and the one it aims at.
//! Never: hides a count that is off.

use std::fmt::Write as _;

use crate::ledger::{Counts, Micros, percentile_ms};

/// A bound on a figure, and the better bound it aims at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    must: f64,
    aim: Option<f64>,
    /// Larger is better.
    floor: bool,
}

impl Limit {
    pub(crate) fn at_least(must: f64) -> Self {
        Self {
            must,
            aim: None,
            floor: true,
        }
    }

    pub(crate) fn at_most(must: f64) -> Self {
        Self {
            must,
            aim: None,
            floor: false,
        }
    }

    pub(crate) fn aim(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }

    fn verdict(self, value: f64) -> Verdict {
        let keeps = |bound: f64| if self.floor { value >= bound } else { value <= bound };
        match self.aim {
            Some(aim) if keeps(aim) => Verdict::Aim,
            _ if keeps(self.must) => Verdict::Must,
            _ => Verdict::Missed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Aim,
    Must,
    Missed,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    scenario: &'static str,
    name: String,
    unit: &'static str,
    /// None where it could not be measured.
    value: Option<f64>,
    limit: Option<Limit>,
}

impl Figure {
    pub(crate) fn new(scenario: &'static str, name: impl Into<String>, unit: &'static str, value: Option<f64>) -> Self {
        Self {
            scenario,
            name: name.into(),
            unit,
            value,
            limit: None,
        }
    }

    pub(crate) fn limit(self, limit: Option<Limit>) -> Self {
        Self { limit, ..self }
    }

    fn verdict(&self) -> Option<Verdict> {
        Some(self.limit?.verdict(self.value?))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    /// Counts that are not what they have to be, in words.
    faults: Vec<String>,
    counts: Vec<(&'static str, Counts, u64)>,
    /// CPU time in milliseconds that a run of a scenario costs all parts together.
    costs: Vec<(&'static str, f64)>,
}

impl Report {
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds p50 and p99 of sorted samples, each with its limit.
    pub(crate) fn percentiles(
        &mut self,
        scenario: &'static str,
        name: &str,
        sorted: &[Micros],
        limits: [Option<Limit>; 2],
    ) {
        for (percent, limit) in [50.0, 99.0].into_iter().zip(limits) {
            let value = percentile_ms(sorted, percent);
            self.add(Figure {
                limit,
                ..Figure::new(scenario, format!("{name} p{percent}"), "ms", value)
            });
        }
    }

    /// Adds the exact counts of a scenario; `completed` is the server's own view.
    pub(crate) fn counts(&mut self, scenario: &'static str, counts: Counts, completed: u64) {
        let faults = [
            (counts.sent - counts.acked, "events not acknowledged"),
            (counts.lost, "acknowledged runs lost"),
            (counts.repeated, "repeated executions"),
            (counts.skipped, "steps skipped"),
            (
                counts.finished.abs_diff(completed),
                "runs of which app and server disagree",
            ),
        ];
        for (number, what) in faults {
            self.fault(scenario, number, what);
        }
        self.counts.push((scenario, counts, completed));
    }

    /// Notes what a run costs all parts together, for [`Report::cost_against`].
    pub(crate) fn cost(&mut self, scenario: &'static str, milliseconds: Option<f64>) {
        self.costs
            .extend(milliseconds.map(|milliseconds| (scenario, milliseconds)));
    }

    /// What a run of `scenario` costs against one of `other`; None unless both were measured, and for a scenario with itself.
    pub(crate) fn cost_against(&self, scenario: &str, other: &str) -> Option<f64> {
        let of = |wanted: &str| Some(self.costs.iter().find(|(name, _)| *name == wanted)?.1);
        (scenario != other).then_some(of(scenario)? / of(other)?)
    }

    /// Notes a count that has to be zero.
    pub(crate) fn fault(&mut self, scenario: &str, number: u64, what: &str) {
        if number > 0 {
            self.faults.push(format!("{scenario}: {number} {what}"));
        }
    }

    /// Whether every count is exact.
    pub(crate) fn exact(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether every measured figure keeps its limit.
    pub(crate) fn keeps_limits(&self) -> bool {
        self.figures
            .iter()
            .all(|figure| figure.verdict() != Some(Verdict::Missed))
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: [&str; 6]| {
            let [scenario, name, value, must, aim, verdict] = cells;
            let text_line = format!("{scenario:<10} {name:<32} {value:>14} {must:>9} {aim:>9}  {verdict}");
            text.push_str(text_line.trim_end());
            text.push('\n');
        };
        line(["scenario", "figure", "measured", "must", "aim", ""]);
        for figure in &self.figures {
            let value = figure.value.map_or_else(
                || "n/a".to_owned(),
                |value| format!("{} {}", number(value), figure.unit).trim_end().to_owned(),
            );
            let must = figure.limit.map(|limit| number(limit.must)).unwrap_or_default();
            let aim = figure.limit.and_then(|limit| limit.aim).map(number).unwrap_or_default();
            let verdict = match figure.verdict() {
                Some(Verdict::Aim) => "aim met",
                Some(Verdict::Must) => "ok",
                Some(Verdict::Missed) => "MISSED",
                None => "",
            };
            line([figure.scenario, &figure.name, &value, &must, &aim, verdict]);
        }
        for (scenario, counts, completed) in &self.counts {
            let Counts {
                sent,
                acked,
                finished,
                lost,
                repeated,
                skipped,
            } = counts;
            let _ = writeln!(
                text,
                "{scenario:<10} sent {sent}, acknowledged {acked}, finished {finished}, completed {completed}; \
                 lost {lost}, repeated {repeated}, skipped {skipped}"
            );
        }
        for fault in &self.faults {
            let _ = writeln!(text, "FAULT      {fault}");
        }
        text
    }
}

/// Three or four significant digits, without trailing zeros.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        magnitude if magnitude >= 100.0 => return format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_judged_from_their_side() {
        let floor = Limit::at_least(100.0).aim(200.0);
        assert_eq!(floor.verdict(99.0), Verdict::Missed);
        assert_eq!(floor.verdict(100.0), Verdict::Must);
        assert_eq!(floor.verdict(200.0), Verdict::Aim);
        let ceiling = Limit::at_most(10.0).aim(3.0);
        assert_eq!(ceiling.verdict(10.1), Verdict::Missed);
        assert_eq!(ceiling.verdict(10.0), Verdict::Must);
        assert_eq!(ceiling.verdict(3.0), Verdict::Aim);
    }

    #[test]
    fn costs_are_compared_once_both_are_known() {
        let mut report = Report::default();
        report.cost("dear", Some(3.0));
        assert_eq!(report.cost_against("dear", "cheap"), None);
        report.cost("cheap", Some(2.0));
        assert_eq!(report.cost_against("dear", "cheap"), Some(1.5));
        assert_eq!(report.cost_against("cheap", "cheap"), None);
    }

    #[test]
    fn a_count_that_is_off_is_a_fault() {
        let mut report = Report::default();
        let counts = Counts {
            sent: 3,
            acked: 3,
            finished: 3,
            ..Counts::default()
        };
        report.counts("fine", counts, 3);
        assert!(report.exact());
        report.counts(
            "off",
            Counts {
                lost: 1,
                finished: 2,
                ..counts
            },
            1,
        );
        assert!(!report.exact());
        let table = report.table();
        assert!(table.contains("off: 1 acknowledged runs lost"), "{table}");
        assert!(
            table.contains("off: 1 runs of which app and server disagree"),
            "{table}"
        );
    }

    #[test]
    fn a_missed_limit_shows_and_an_unmeasured_figure_does_not_count() {
        let mut report = Report::default();
        report.add(Figure::new("s", "not measured", "ms", None).limit(Some(Limit::at_most(1.0))));
        assert!(report.keeps_limits());
        report.add(Figure::new("s", "slow", "ms", Some(2.0)).limit(Some(Limit::at_most(1.0))));
        assert!(!report.keeps_limits());
        assert!(report.table().contains("MISSED"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1234.56), "1235");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(10.0), "10");
        assert_eq!(number(200.0), "200");
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(3.0), "3");
    }
}
