//! The stock of one variety in a simulated network. Every PIN is in one place; `total` counts them all.

use super::super::churn::Churn;
use super::super::levels::LevelRule;
use super::super::position::{Central, Position, Request};
use super::super::rate::{Cover, Rate, SalesRate};
use super::scenario::Scenario;
use std::collections::BTreeMap;

/// One variety: at the hub, at nodes, under way.
pub(super) struct Variety {
    pub(super) central: Central,
    pub(super) nodes: Vec<Seller>,
    /// Open requests, in order of arrival.
    pub(super) requests: Vec<Request>,
    /// What arrives, by minute of the run.
    arrivals: BTreeMap<u32, Vec<Arrival>>,
    pub(super) on_order: u64,
    pub(super) churn: Churn,
    /// PINs sold from the beginning on.
    pub(super) sold: u64,
    /// PINs that ever came in.
    received: u64,
}

/// A node's stock of the variety.
pub(super) struct Seller {
    pub(super) position: Position,
    pub(super) rule: LevelRule,
    pub(super) rate: SalesRate,
}

/// Stock that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// To a node, by its place.
    Node(usize, u64),
    /// Back to the hub.
    Hub(u64),
    /// From the supplier.
    Delivery(u64),
}

impl Variety {
    pub(super) fn new(nodes: Vec<Seller>, scenario: &Scenario) -> Self {
        let central = Central { on_hand: scenario.hub_stock, ..Central::default() };
        let at_nodes: u64 = nodes.iter().map(|node| node.position.on_hand).sum();
        Self {
            central,
            received: scenario.hub_stock + at_nodes,
            nodes,
            requests: Vec::new(),
            arrivals: BTreeMap::new(),
            on_order: 0,
            churn: Churn::default(),
            sold: 0,
        }
    }

    pub(super) fn arrive(&mut self, step: u32) {
        for arrival in self.arrivals.remove(&step).unwrap_or_default() {
            match arrival {
                Arrival::Node(at, pins) => {
                    let position = &mut self.nodes[at].position;
                    position.in_flight -= pins;
                    position.on_hand += pins;
                }
                Arrival::Hub(pins) => {
                    self.central.returning -= pins;
                    self.central.on_hand += pins;
                }
                Arrival::Delivery(pins) => {
                    self.on_order -= pins;
                    self.received += pins;
                    self.central.on_hand += pins;
                }
            }
        }
    }

    /// Sends stock on its way; it is at its end in step `at`, not before the next.
    pub(super) fn send(&mut self, arrival: Arrival, at: u32) {
        match arrival {
            Arrival::Node(node, pins) => {
                self.central.on_hand -= pins;
                self.nodes[node].position.in_flight += pins;
            }
            Arrival::Hub(pins) => self.central.returning += pins,
            Arrival::Delivery(pins) => self.on_order += pins,
        }
        self.arrivals.entry(at).or_default().push(arrival);
    }

    /// PINs in the hub, at nodes and under way.
    pub(super) fn on_hand(&self) -> u64 {
        let at_nodes = self.nodes.iter().map(|node| node.position.on_hand + node.position.in_flight);
        self.central.on_hand + self.central.returning + at_nodes.sum::<u64>()
    }

    /// Whether the network has stock enough that nobody need be without: what is at the hub, on its way there, or at nodes above
    /// their low marks lasts the whole network for an hour.
    pub(super) fn suffices(&self) -> bool {
        let above_low = |node: &Seller| node.position.on_hand.saturating_sub(node.position.levels.low());
        let movable =
            self.central.on_hand + self.central.returning + self.nodes.iter().map(above_low).sum::<u64>();
        let rate = Rate(self.nodes.iter().map(|node| node.position.rate.0).sum());
        movable > 0 && Cover::of(movable, rate) >= Cover::from_h(1)
    }

    /// Law 1 of the simulated network.
    pub(super) fn is_balanced(&self) -> bool {
        self.received == self.on_hand() + self.sold
    }
}
