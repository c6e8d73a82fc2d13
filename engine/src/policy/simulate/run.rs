//! The run itself.

use super::super::Rules;
use super::super::allocation::{Plan, View, allocate};
use super::super::position::{Position, Request};
use super::super::rate::{Cover, Rate, SalesRate};
use super::super::reorder::{NetworkStock, reorder};
use super::report::{Line, Move, OrderPlaced, Report};
use super::scenario::{NodeSetting, Scenario};
use super::stock::{Arrival, Seller, Variety};
use super::trace::Trace;
use crate::ids::SellerId;

/// Runs the policy over a trace. The run begins one delay before hour 0, so that nodes can ask for their first stock.
///
/// # Panics
///
/// If a PIN is lost or made, which would be a mistake in this program.
#[must_use]
pub fn simulate(trace: &Trace, scenario: &Scenario) -> Report {
    let mut report = Report { hours: trace.hours, delay_min: scenario.delay_min, ..Report::default() };
    for (variety, code) in trace.varieties.iter().enumerate() {
        Run::new(trace, scenario, variety, code).run(&mut report);
    }
    report.moves.sort_by_key(|moved| moved.minute);
    report.orders_placed.sort_by_key(|placed| placed.minute);
    report.recalled_per_sold =
        if report.sold == 0 { 0.0 } else { report.recalled as f64 / report.sold as f64 };
    report
}

/// One variety; varieties know nothing of each other.
struct Run<'a> {
    trace: &'a Trace,
    scenario: &'a Scenario,
    rules: Rules,
    variety: usize,
    code: &'a str,
    stock: Variety,
    lines: Vec<Line>,
    /// For each node minutes below, in and above the band, and in it by what is on hand.
    minutes: Vec<[u32; 4]>,
    next_request: u64,
    /// Whether the network's stock sufficed when this minute began.
    suffices: bool,
}

impl<'a> Run<'a> {
    fn new(trace: &'a Trace, scenario: &'a Scenario, variety: usize, code: &'a str) -> Self {
        let seller = |(at, name): (usize, &String)| {
            let setting = scenario.nodes.iter().find(|setting| setting.name == *name);
            let NodeSetting { stock, levels, .. } = setting.cloned().unwrap_or_else(|| NodeSetting {
                name: name.clone(),
                stock: 0,
                levels: None,
            });
            let rule = levels.unwrap_or(scenario.levels);
            let position = Position {
                node: seller_id(at),
                on_hand: stock,
                levels: rule.levels(Rate::NONE, &scenario.auto),
                ..Position::default()
            };
            Seller { position, rule, rate: SalesRate::new(scenario.smoothing_h) }
        };
        let line = |name: &String| Line { variety: code.to_owned(), node: name.clone(), ..Line::default() };
        Self {
            trace,
            scenario,
            rules: Rules { critical_h: scenario.critical_h },
            variety,
            code,
            stock: Variety::new(trace.nodes.iter().enumerate().map(seller).collect(), scenario),
            lines: trace.nodes.iter().map(line).collect(),
            minutes: vec![[0; 4]; trace.nodes.len()],
            next_request: 1,
            suffices: false,
        }
    }

    fn run(mut self, report: &mut Report) {
        let begin = self.scenario.delay_min.max(1);
        for step in 0..begin + self.trace.hours * 60 {
            self.stock.arrive(step);
            let minute = step.checked_sub(begin);
            self.suffices = self.stock.suffices();
            let sold = minute.map_or(0, |minute| self.vend(minute));
            self.follow_sales(step, sold);
            self.ask();
            self.decide(step, i64::from(step) - i64::from(begin), report);
            self.order(step, i64::from(step) - i64::from(begin), report);
            // A request for terminals that wait is void when their patience is over, which is less than a minute.
            self.stock.requests.retain(|request| !request.is_urgent && request.pins > 0);
            if minute.is_some() {
                self.look_at_bands();
            }
            assert!(self.stock.is_balanced(), "a simulated PIN was lost or made in step {step}");
        }
        self.finish(report);
    }

    /// Terminals buy. Returns how many PINs were sold.
    fn vend(&mut self, minute: u32) -> u64 {
        let mut sold = 0;
        for at in 0..self.lines.len() {
            let wanted = self.trace.wanted(minute, at, self.variety);
            let seller = &mut self.stock.nodes[at];
            let found = wanted.min(seller.position.on_hand);
            seller.position.on_hand -= found;
            seller.rate.handle_sold(found, 0);
            let missing = wanted - found;
            let line = &mut self.lines[at];
            line.vends += wanted;
            line.sold += found;
            line.stock_outs += missing;
            self.stock.sold += found;
            sold += found;
            if missing > 0 {
                self.request(at, missing, true);
            }
        }
        sold
    }

    fn follow_sales(&mut self, step: u32, sold: u64) {
        let now_ms = u64::from(step) * MINUTE_MS;
        self.stock.churn.handle_moved(sold, 0, now_ms);
        for Seller { position, rule, rate } in &mut self.stock.nodes {
            match position.on_hand {
                0 => rate.handle_empty(now_ms),
                _ => rate.handle_sold(0, now_ms),
            }
            position.rate = rate.rate();
            position.levels = rule.levels(position.rate, &self.scenario.auto);
        }
    }

    /// Nodes below their low marks ask, each with one request at a time; what a request lacks follows the target.
    fn ask(&mut self) {
        for at in 0..self.stock.nodes.len() {
            let position = self.stock.nodes[at].position;
            let is_open = |request: &&mut Request| request.node == position.node && !request.is_urgent;
            match self.stock.requests.iter_mut().find(is_open) {
                Some(open) => open.pins = position.levels.target().saturating_sub(position.held()),
                None => match position.levels.shortfall(position.held()) {
                    0 => {}
                    pins => self.request(at, pins, false),
                },
            }
        }
    }

    fn request(&mut self, at: usize, pins: u64, is_urgent: bool) {
        let request = Request { id: self.next_request, node: seller_id(at), pins, is_urgent };
        self.next_request += 1;
        self.stock.requests.push(request);
    }

    fn decide(&mut self, step: u32, minute: i64, report: &mut Report) {
        let nodes: Vec<Position> = self.stock.nodes.iter().map(|seller| seller.position).collect();
        let view = View {
            central: self.stock.central,
            nodes: &nodes,
            requests: &self.stock.requests,
            take_back_max: self.stock.churn.take_back_max(),
        };
        let Plan { transfers, recalls, queued } = allocate(&view, &self.rules);
        let is_urgent = |id| self.stock.requests.iter().any(|request| request.id == id && request.is_urgent);
        let unfilled = queued.iter().filter(|queued| is_urgent(queued.request));
        let unfilled: u64 = unfilled.map(|queued| queued.pins).sum();
        report.avoidable += if self.suffices { unfilled } else { 0 };
        report.while_any_stock += if self.stock.on_hand() > 0 { unfilled } else { 0 };
        for request in &mut self.stock.requests {
            request.pins =
                queued.iter().find(|queued| queued.request == request.id).map_or(0, |left| left.pins);
        }
        let arrives = step + self.scenario.delay_min.max(1);
        for transfer in transfers {
            let at = place(transfer.node);
            let line = &mut self.lines[at];
            line.received += transfer.pins;
            report.moves.push(Move::down(minute, self.code, &line.node, &transfer));
            if transfer.reason.is_urgent() {
                // It takes seconds, and the terminal is waiting.
                self.stock.central.on_hand -= transfer.pins;
                self.stock.sold += transfer.pins;
                line.sold += transfer.pins;
                report.filled_urgently += transfer.pins;
                // They were sold in this minute, so they count into its rate with the next report.
                self.stock.nodes[at].rate.handle_sold(transfer.pins, 0);
            } else {
                report.transfers += 1;
                report.transferred += transfer.pins;
                self.stock.send(Arrival::Node(at, transfer.pins), arrives);
            }
        }
        for recall in recalls {
            let at = place(recall.node);
            let line = &mut self.lines[at];
            line.recalled += recall.pins;
            report.moves.push(Move::back(minute, self.code, &line.node, &recall));
            report.recalls += 1;
            report.recalled += recall.pins;
            self.stock.nodes[at].position.on_hand -= recall.pins;
            self.stock.send(Arrival::Hub(recall.pins), arrives);
            self.stock.churn.handle_moved(0, recall.pins, u64::from(step) * MINUTE_MS);
        }
    }

    fn order(&mut self, step: u32, minute: i64, report: &mut Report) {
        let waiting = self.stock.requests.iter().filter(|request| !request.is_urgent);
        let stock = NetworkStock {
            on_hand: self.stock.on_hand(),
            on_order: self.stock.on_order,
            queued: waiting.map(|request| request.pins).sum(),
            sold: self.stock.sold,
        };
        let rate = Rate(self.stock.nodes.iter().map(|seller| seller.position.rate.0).sum());
        if !self.scenario.orders {
            return;
        }
        if let Ok(order) = reorder(&stock, rate, &self.scenario.reorder) {
            let arrives = step + (self.scenario.reorder.lead_h * 60).max(1);
            self.stock.send(Arrival::Delivery(order.pins), arrives);
            report.orders += 1;
            report.ordered += order.pins;
            report.orders_placed.push(OrderPlaced { minute, variety: self.code.to_owned(), order });
        }
    }

    fn look_at_bands(&mut self) {
        for (at, Seller { position, .. }) in self.stock.nodes.iter().enumerate() {
            let levels = position.levels;
            let place = |pins| if pins < levels.low() { 0 } else { 1 + usize::from(pins > levels.high()) };
            self.minutes[at][place(position.held())] += 1;
            self.minutes[at][3] += u32::from(place(position.on_hand) == 1);
            self.lines[at].saw_cover(Cover::of(position.on_hand, position.rate));
        }
    }

    fn finish(self, report: &mut Report) {
        for (at, mut line) in self.lines.into_iter().enumerate() {
            let [below, within, above, on_hand] = self.minutes[at].map(|minutes| f64::from(minutes) / 60.0);
            (line.below_h, line.in_band_h, line.above_h) = (below, within, above);
            line.on_hand_in_band_h = on_hand;
            line.left = self.stock.nodes[at].position.on_hand;
            report.vends += line.vends;
            report.sold += line.sold;
            report.stock_outs += line.stock_outs;
            report.below_h += below;
            report.in_band_h += within;
            report.above_h += above;
            report.on_hand_in_band_h += on_hand;
            report.lines.push(line);
        }
        report.left += self.stock.on_hand();
    }
}

/// A node's number: its place among the names, from 1.
fn seller_id(at: usize) -> SellerId {
    SellerId(u32::try_from(at + 1).expect("a trace has few nodes"))
}

fn place(node: SellerId) -> usize {
    node.0 as usize - 1
}

const MINUTE_MS: u64 = 60_000;
