//! What a run showed.

use super::super::allocation::Transfer;
use super::super::rate::Cover;
use super::super::reason::Reason;
use super::super::recall::Recall;
use super::super::reorder::Order;
use serde::Serialize;

/// What a run showed. Amounts are PINs of all varieties.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// Hours of demand.
    pub hours: u32,
    /// From decision to arrival, in minutes.
    pub delay_min: u32,
    /// PINs that terminals wanted.
    pub vends: u64,
    /// PINs that they bought.
    pub sold: u64,
    /// Vends that found nothing at their node.
    pub stock_outs: u64,
    /// Of these: PINs that an urgent transfer brought within the minute. They are in `sold`.
    pub filled_urgently: u64,
    /// Of `stock_outs`, not filled: while the network's stock sufficed. It suffices if what is at the hub, on its way there, or
    /// at nodes above their low marks lasts the whole network for an hour.
    pub avoidable: u64,
    /// Likewise while there was any stock at all, also a few last PINs and what nodes keep up to their low marks.
    pub while_any_stock: u64,
    /// Transfers from the hub to nodes for ordinary requests.
    pub transfers: u64,
    /// PINs in them.
    pub transferred: u64,
    /// Moves from nodes to the hub.
    pub recalls: u64,
    /// PINs in them.
    pub recalled: u64,
    /// `recalled` by `sold`; 0 if nothing was sold.
    pub recalled_per_sold: f64,
    /// Hours that nodes were between their low and high marks with what they had or had coming, summed over nodes and
    /// varieties.
    pub in_band_h: f64,
    /// Likewise below their low marks.
    pub below_h: f64,
    /// Likewise above their high marks.
    pub above_h: f64,
    /// Hours between the marks by what they had on hand alone.
    pub on_hand_in_band_h: f64,
    /// Orders placed.
    pub orders: u64,
    /// PINs ordered.
    pub ordered: u64,
    /// PINs that are left at the hub, at nodes, and in transfer.
    pub left: u64,
    /// Each node and variety by itself.
    pub lines: Vec<Line>,
    /// Every move, in order.
    #[serde(skip)]
    pub moves: Vec<Move>,
    /// Every order, in order.
    #[serde(skip)]
    pub orders_placed: Vec<OrderPlaced>,
}

impl Report {
    /// Hours of all nodes and varieties.
    #[must_use]
    pub fn all_h(&self) -> f64 {
        self.in_band_h + self.below_h + self.above_h
    }
}

/// One node and variety.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Line {
    /// The variety's code.
    pub variety: String,
    /// The node's name.
    pub node: String,
    /// PINs that terminals wanted.
    pub vends: u64,
    /// PINs that they bought.
    pub sold: u64,
    /// Vends that found nothing.
    pub stock_outs: u64,
    /// PINs that came from the hub.
    pub received: u64,
    /// PINs that went back.
    pub recalled: u64,
    /// Hours between the marks, with what it had or had coming.
    pub in_band_h: f64,
    /// Hours below the low mark.
    pub below_h: f64,
    /// Hours above the high mark.
    pub above_h: f64,
    /// Hours between the marks by what it had on hand alone.
    pub on_hand_in_band_h: f64,
    /// The shortest that stock on hand ever was to last, in minutes at the smoothed rate; nothing if nothing was sold.
    pub least_cover_min: Option<u32>,
    /// PINs on hand at the end.
    pub left: u64,
}

impl Line {
    /// Hours in band by all hours, from 0 to 1.
    #[must_use]
    pub fn in_band_share(&self) -> f64 {
        self.in_band_h / (self.in_band_h + self.below_h + self.above_h).max(f64::MIN_POSITIVE)
    }

    pub(super) fn saw_cover(&mut self, cover: Cover) {
        if let Some(minutes) = cover.minutes() {
            self.least_cover_min = Some(self.least_cover_min.map_or(minutes, |least| least.min(minutes)));
        }
    }
}

/// A move of stock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Move {
    /// When it was decided, in minutes from the first hour; below 0 before it.
    pub minute: i64,
    /// Which way.
    pub kind: MoveKind,
    /// The variety's code.
    pub variety: String,
    /// The node's name.
    pub node: String,
    /// PINs.
    pub pins: u64,
    /// Why.
    pub reason: Reason,
}

/// Which way stock moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveKind {
    /// From the hub to a node.
    Down,
    /// From a node to the hub.
    Back,
}

impl Move {
    pub(super) fn down(minute: i64, variety: &str, node: &str, transfer: &Transfer) -> Self {
        let Transfer { pins, reason, .. } = *transfer;
        let (variety, node) = (variety.to_owned(), node.to_owned());
        Self { minute, kind: MoveKind::Down, variety, node, pins, reason }
    }

    pub(super) fn back(minute: i64, variety: &str, node: &str, recall: &Recall) -> Self {
        let Recall { pins, reason, .. } = *recall;
        let (variety, node) = (variety.to_owned(), node.to_owned());
        Self { minute, kind: MoveKind::Back, variety, node, pins, reason }
    }
}

/// An order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderPlaced {
    /// When, in minutes from the first hour; below 0 before it.
    pub minute: i64,
    /// The variety's code.
    pub variety: String,
    /// What and why.
    pub order: Order,
}
