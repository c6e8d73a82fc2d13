//! What stands around the demand: TOML; every key may be missing, unknown ones are errors.

use super::super::Rules;
use super::super::levels::{AutoLevels, LevelRule};
use super::super::reorder::ReorderRule;
use super::trace::Trace;
use serde::Deserialize;
use std::collections::HashSet;

/// What a run begins with.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// From a decision to the arrival of the stock, each way, in minutes.
    pub delay_min: u32,
    /// PINs of each variety at the hub in the beginning.
    pub hub_stock: u64,
    /// Marks of nodes that have none of their own.
    pub levels: LevelRule,
    /// How automatic marks follow sales.
    pub auto: AutoLevels,
    /// In how many hours the weight of old sales falls by e.
    pub smoothing_h: u32,
    /// Below this many hours of cover a node is critical.
    pub critical_h: u32,
    /// When more is ordered. Deliveries come after its lead time.
    pub reorder: ReorderRule,
    /// Whether anything is ordered.
    pub orders: bool,
    /// Nodes of which more is said.
    #[serde(rename = "node")]
    pub nodes: Vec<NodeSetting>,
}

/// What is said of one node.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSetting {
    /// Its name in the trace.
    pub name: String,
    /// PINs of each variety that it has in the beginning.
    #[serde(default)]
    pub stock: u64,
    /// Its marks.
    pub levels: Option<LevelRule>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            delay_min: 10,
            hub_stock: 50_000,
            levels: LevelRule::Auto,
            auto: AutoLevels::default(),
            smoothing_h: 24,
            critical_h: Rules::default().critical_h,
            reorder: ReorderRule::default(),
            orders: true,
            nodes: Vec::new(),
        }
    }
}

impl Scenario {
    /// Reads a scenario for a trace.
    ///
    /// # Errors
    ///
    /// What is wrong, with line and column where it is a matter of the text.
    pub fn parse(text: &str, trace: &Trace) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::of_toml(text, &error))?;
        scenario.check(trace)?;
        Ok(scenario)
    }

    fn check(&self, trace: &Trace) -> Result<(), ScenarioError> {
        let rules = self.nodes.iter().filter_map(|node| node.levels).chain([self.levels]);
        let marks = rules.filter_map(|rule| match rule {
            LevelRule::Auto => None,
            LevelRule::Fixed(levels) => Some(levels.high()),
        });
        let ReorderRule { point, up_to, lot, .. } = self.reorder;
        let amounts = self.nodes.iter().map(|node| node.stock).chain(marks).chain(point).chain(up_to);
        if amounts.chain([self.hub_stock, lot, self.auto.floor.high()]).any(|pins| pins > STOCK_MAX) {
            return Err(ScenarioError::TooMuch);
        }
        if !self.auto.is_ordered() {
            return Err(ScenarioError::Hours);
        }
        if self.delay_min > DELAY_MIN_MAX || self.reorder.lead_h > DELAY_MIN_MAX / 60 {
            return Err(ScenarioError::TooSlow);
        }
        let mut seen = HashSet::new();
        for NodeSetting { name, .. } in &self.nodes {
            if !trace.nodes.contains(name) {
                return Err(ScenarioError::UnknownNode(name.clone()));
            }
            if !seen.insert(name) {
                return Err(ScenarioError::Twice(name.clone()));
            }
        }
        Ok(())
    }
}

/// What is wrong with a scenario.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The text is not what it should be.
    #[error("line {line}, column {column}: {message} [toml]")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// The character in it, from 1.
        column: usize,
        /// What.
        message: String,
    },
    /// A node that the trace does not have.
    #[error("the trace has no node {0:?} [unknown-node]")]
    UnknownNode(String),
    /// A node that stands there twice.
    #[error("the node {0:?} stands there twice [twice]")]
    Twice(String),
    /// Hours of cover in the wrong order.
    #[error("auto: low_h, target_h and high_h go up in this order [hours]")]
    Hours,
    /// More PINs than can be reckoned with, in stock, as a mark or to be ordered.
    #[error("more than {STOCK_MAX} PINs in one place [too-much]")]
    TooMuch,
    /// Transfers or deliveries that take for ever.
    #[error("a delay or a lead time of more than {} days [too-slow]", DELAY_MIN_MAX / 60 / 24)]
    TooSlow,
}

impl ScenarioError {
    fn of_toml(text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        Self::Toml { line, column, message }
    }
}

/// Most PINs in one place.
const STOCK_MAX: u64 = 1_000_000_000_000;
/// Longest delay, in minutes: 60 days.
const DELAY_MIN_MAX: u32 = 60 * 24 * 60;

#[cfg(test)]
mod unit {
    use super::super::super::levels::Levels;
    use super::*;

    #[test]
    fn a_scenario_says_only_what_is_different() {
        let trace = Trace::parse("hour,node,variety,vends\n0,north,a,1\n").unwrap();
        assert_eq!(Scenario::parse("", &trace), Ok(Scenario::default()));
        let text = "hub_stock = 7\n[reorder]\nlead_h = 48\n[[node]]\nname = \"north\"\n\
                    levels = { low = 1, target = 2, high = 3 }\n";
        let scenario = Scenario::parse(text, &trace).unwrap();
        assert_eq!((scenario.hub_stock, scenario.reorder.lead_h, scenario.reorder.lot), (7, 48, 1000));
        let marks = LevelRule::Fixed(Levels::new(1, 2, 3).unwrap());
        assert_eq!((scenario.nodes[0].levels, scenario.nodes[0].stock), (Some(marks), 0));
    }

    #[test]
    fn the_example_of_the_specification_is_the_default() {
        let spec = include_str!("../../../../spec/allocation.md");
        let example = spec.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let trace = Trace::parse("hour,node,variety,vends\n0,north,a,1\n").unwrap();
        let mut scenario = Scenario::parse(example, &trace).unwrap();
        assert_eq!(scenario.nodes.pop().unwrap().levels, Some(LevelRule::Auto));
        assert_eq!(scenario, Scenario::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        let trace = Trace::parse("hour,node,variety,vends\n0,north,a,1\n").unwrap();
        let error = |text: &str| Scenario::parse(text, &trace).unwrap_err().to_string();
        let said = error("hub_stock = 7\ndelay = 3\n");
        assert!(said.starts_with("line 2, column 1: unknown field `delay`"), "{said}");
        let said = error("\nhub_stock = \"many\"\n");
        assert!(said.starts_with("line 2, column 13: "), "{said}");
        assert_eq!(error("[[node]]\nname = \"moon\"\n"), "the trace has no node \"moon\" [unknown-node]");
        assert!(error("[[node]]\nname = \"north\"\n[[node]]\nname = \"north\"\n").ends_with("[twice]"));
        assert!(error("[auto]\nlow_h = 20\n").ends_with("[hours]"));
        // Sums of them over a few nodes would not fit.
        let much = i64::MAX;
        for text in [
            "hub_stock = 10000000000000\n".to_owned(),
            format!("levels = {{ low = 1, target = 2, high = {much} }}\n"),
            format!("[auto]\nfloor = {{ low = 1, target = 2, high = {much} }}\n"),
            format!("[reorder]\npoint = {much}\n"),
            format!("[reorder]\nup_to = {much}\n"),
            format!("[[node]]\nname = \"north\"\nlevels = {{ low = 1, target = 2, high = {much} }}\n"),
        ] {
            assert!(error(&text).ends_with("[too-much]"), "{text}");
        }
        assert!(error("delay_min = 1000000\n").ends_with("[too-slow]"));
    }
}
