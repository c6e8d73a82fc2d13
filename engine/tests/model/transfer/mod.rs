//! Stock transfer: a hub, two sellers and the real [`engine::transfer::Giver`] and [`engine::transfer::Taker`] on both
//! ends of both links, in both directions.
//!
//! What is written here is their owner: it makes facts and contents durable, one at a time, carries messages in order,
//! cuts links with all that is on its way, and loses power at any moment with any part of what was unsynced on the disk.

mod books;
mod node;

use crate::explore::{explore, find};
use node::{Message, Node};
use stateright::{Model, Property};
use std::collections::VecDeque;

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    /// The hub, then the sellers.
    nodes: Vec<Node>,
    /// The hub's link with each seller.
    wires: Vec<Wire>,
    pins: u32,
    left: Left,
    /// What one of them did that it must not.
    wrong: Option<&'static str>,
}

/// What is on its way, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Wire {
    is_up: bool,
    to_seller: VecDeque<Message>,
    to_hub: VecDeque<Message>,
}

/// How often what need not happen may yet happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Left {
    transfers: u8,
    sales: u8,
    crashes: u8,
    cuts: u8,
    repeats: u8,
    refusals: u8,
}

/// What can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The hub gives a PIN to a seller, or a seller gives it back.
    Give {
        seller: usize,
        down: bool,
        pin: u32,
    },
    Sell {
        seller: usize,
        pin: u32,
    },
    /// The oldest fact of a node becomes durable.
    Sync {
        node: usize,
    },
    /// The oldest content of a node becomes durable, or is found to be right.
    Write {
        node: usize,
    },
    /// The oldest message arrives.
    Deliver {
        seller: usize,
        down: bool,
    },
    Connect {
        seller: usize,
    },
    /// A fault: the oldest message arrives, and will again.
    Repeat {
        seller: usize,
        down: bool,
    },
    /// A fault: all that is on its way is lost.
    Cut {
        seller: usize,
    },
    /// A fault: power goes when so many of the unsynced facts have reached the disk.
    Crash {
        node: usize,
        reached: usize,
    },
    /// The seller, or the hub, will not take what it is being offered.
    Refuse {
        seller: usize,
        down: bool,
    },
    /// Only with [`Flaw::CancelByTimeOut`].
    TimeOut {
        seller: usize,
        down: bool,
    },
}

/// Mistakes that somebody could make who writes the owner anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    GiveUpAfterSend,
    CancelByTimeOut,
    ForgetNumber,
    ForgetWatermark,
    ForgetOutcomes,
    AnswerBeforeDurable,
    RecordBeforeContent,
    SellBeforeIn,
    SellWhatIsGiven,
}

struct Transfers {
    /// How many PINs the hub has in the beginning. With one, one transfer follows the other.
    pins: u32,
    left: Left,
    flaw: Option<Flaw>,
}

impl Model for Transfers {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let nodes = vec![Node::new(true, SELLERS, self.pins), Node::new(false, 1, 0), Node::new(false, 1, 0)];
        let wires = vec![Wire::default(); SELLERS];
        let mut world = World { nodes, wires, pins: self.pins, left: self.left, wrong: None };
        (0..SELLERS).for_each(|seller| world.take(Step::Connect { seller }, None));
        vec![world]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.wrong.is_none() {
            world.necessary(steps);
            world.possible(self.left, steps);
            if self.flaw == Some(Flaw::CancelByTimeOut) {
                let ways = (0..SELLERS).flat_map(|seller| [true, false].map(|down| (seller, down)));
                let waiting = |&(seller, down): &(usize, bool)| {
                    let (node, link) = end_of(seller, down);
                    !world.nodes[node].books.links[link].open.is_empty()
                };
                steps.extend(ways.filter(waiting).map(|(seller, down)| Step::TimeOut { seller, down }));
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        world.take(step, self.flaw);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut laws = vec![
            Property::always("every PIN has one owner", |_, world: &World| {
                (0..world.pins).all(|pin| world.owners(pin) == 1)
            }),
            Property::always("memory claims no more than is durable", |_, world: &World| {
                world.nodes.iter().all(|node| node.held.keys().all(|pin| node.books.held.contains_key(pin)))
            }),
            Property::always("no number, generation or fact is out of order", |_, world: &World| {
                world.wrong.is_none()
            }),
            Property::always("without more faults every PIN is placed", |model: &Self, world: &World| {
                world.comes_to_rest(model.flaw)
            }),
        ];
        if self.sees_all() {
            laws.extend([
                Property::sometimes("all transfers are taken", |model: &Self, world: &World| {
                    world.left.transfers == 0
                        && world.left.refusals == model.left.refusals
                        && world.is_at_rest()
                }),
                Property::sometimes("what was refused goes elsewhere", |_, world: &World| {
                    let refused = &world.nodes[1].books.links[0];
                    refused.taken == 1
                        && refused.outcomes.values().any(|(_, accepted)| !accepted)
                        && !world.nodes[2].books.held.is_empty()
                }),
                Property::sometimes(
                    "a PIN is sold by the second seller after the first gave it back",
                    |_, world: &World| {
                        world.nodes[1].books.links[0].given == 1 && world.nodes[2].books.sold.contains(&0)
                    },
                ),
            ]);
        }
        laws
    }
}

impl Transfers {
    /// Whether everything that is worth seeing can happen.
    fn sees_all(&self) -> bool {
        let Left { transfers, sales, refusals, .. } = self.left;
        self.flaw.is_none() && transfers >= 3 && sales > 0 && refusals > 0
    }
}

impl World {
    /// What happens by itself, sooner or later.
    fn necessary(&self, steps: &mut Vec<Step>) {
        for (node, of) in self.nodes.iter().enumerate() {
            if !of.unsynced.is_empty() {
                steps.push(Step::Sync { node });
            }
            if !of.writing.is_empty() {
                steps.push(Step::Write { node });
            }
        }
        for (seller, wire) in self.wires.iter().enumerate() {
            if !wire.is_up {
                steps.push(Step::Connect { seller });
            }
            for down in [true, false] {
                if !wire.queue(down).is_empty() {
                    steps.push(Step::Deliver { seller, down });
                }
            }
        }
    }

    /// What somebody decides, and faults. `all` is what was left in the beginning.
    fn possible(&self, all: Left, steps: &mut Vec<Step>) {
        let left = self.left;
        for seller in 0..SELLERS {
            if left.transfers > 0 {
                for down in [true, false] {
                    let (node, link) = end_of(seller, down);
                    let node = &self.nodes[node];
                    if node.ends[link].giver.has_room() {
                        // Sellers are alike, and so are PINs: the first goes to the first.
                        let any = left.transfers < all.transfers || seller == 0;
                        let pins = node
                            .held
                            .keys()
                            .filter(|pin| any && (left.transfers < all.transfers || **pin == 0));
                        steps.extend(pins.map(|&pin| Step::Give { seller, down, pin }));
                    }
                }
            }
            if left.sales > 0 {
                steps.extend(self.nodes[1 + seller].held.keys().map(|&pin| Step::Sell { seller, pin }));
            }
            if left.cuts > 0 && self.wires[seller].is_up {
                steps.push(Step::Cut { seller });
            }
            for down in [true, false] {
                if left.repeats > 0 && !self.wires[seller].queue(down).is_empty() {
                    steps.push(Step::Repeat { seller, down });
                }
                let (node, link) = end_of(seller, !down);
                if left.refusals > 0 && self.nodes[node].ends[link].taker.incoming().len() > 0 {
                    steps.push(Step::Refuse { seller, down });
                }
            }
        }
        if left.crashes > 0 {
            for (node, of) in self.nodes.iter().enumerate() {
                steps.extend((0..=of.unsynced.len()).map(|reached| Step::Crash { node, reached }));
            }
        }
    }

    fn take(&mut self, step: Step, flaw: Option<Flaw>) {
        if let Err(wrong) = self.try_take(step, flaw) {
            self.wrong = Some(wrong);
        }
    }

    fn try_take(&mut self, step: Step, flaw: Option<Flaw>) -> Result<(), &'static str> {
        match step {
            Step::Give { seller, down, pin } => {
                self.left.transfers -= 1;
                let (node, link) = end_of(seller, down);
                self.nodes[node].give(link, pin, flaw);
                self.run(node, link, flaw);
            }
            Step::Sell { seller, pin } => {
                self.left.sales -= 1;
                self.nodes[1 + seller].sell(pin);
            }
            Step::Sync { node } => {
                if let Some(link) = self.nodes[node].sync()? {
                    self.run(node, link, flaw);
                }
            }
            Step::Write { node } => {
                let link = self.nodes[node].write();
                self.run(node, link, flaw);
            }
            Step::Deliver { seller, down } => {
                let message = self.wires[seller].queue_mut(down).pop_front().expect("there is one");
                self.deliver(seller, down, &message, flaw)?;
            }
            Step::Repeat { seller, down } => {
                self.left.repeats -= 1;
                let message = self.wires[seller].queue(down).front().expect("there is one").clone();
                self.deliver(seller, down, &message, flaw)?;
            }
            Step::Connect { seller } => {
                self.wires[seller].is_up = true;
                for down in [true, false] {
                    let (node, link) = end_of(seller, down);
                    self.nodes[node].ends[link].giver.handle_connected();
                    self.run(node, link, flaw);
                }
            }
            Step::Cut { seller } => {
                self.left.cuts -= 1;
                self.cut(seller);
            }
            Step::Crash { node, reached } => {
                self.left.crashes -= 1;
                (0..SELLERS)
                    .filter(|seller| node == 0 || node == seller + 1)
                    .for_each(|seller| self.cut(seller));
                self.nodes[node].crash(reached, flaw)?;
            }
            Step::Refuse { seller, down } => {
                self.left.refusals -= 1;
                let (node, link) = end_of(seller, !down);
                let taker = &mut self.nodes[node].ends[link].taker;
                let number = taker.incoming().next().expect("there is one").number;
                taker.refuse(number);
                self.nodes[node].writing.retain(|(of, offer)| *of != link || offer.number != number);
                self.run(node, link, flaw);
            }
            Step::TimeOut { seller, down } => {
                let (node, link) = end_of(seller, down);
                let number = *self.nodes[node].books.links[link].open.keys().next().expect("there is one");
                let _ = self.nodes[node].ends[link].giver.handle_answer(number, false);
                self.run(node, link, flaw);
            }
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        seller: usize,
        down: bool,
        message: &Message,
        flaw: Option<Flaw>,
    ) -> Result<(), &'static str> {
        let (node, link) = end_of(seller, !down);
        self.nodes[node].hear(link, message)?;
        self.run(node, link, flaw);
        Ok(())
    }

    fn run(&mut self, node: usize, link: usize, flaw: Option<Flaw>) {
        let messages = self.nodes[node].run(link, flaw);
        let (seller, down) = if node == 0 { (link, true) } else { (node - 1, false) };
        let wire = &mut self.wires[seller];
        debug_assert!(wire.is_up || messages.is_empty(), "nothing is sent without a link");
        wire.queue_mut(down).extend(messages);
    }

    fn cut(&mut self, seller: usize) {
        self.wires[seller] = Wire::default();
        for down in [true, false] {
            let (node, link) = end_of(seller, down);
            let ends = &mut self.nodes[node].ends[link];
            ends.giver.handle_cut();
            ends.taker.handle_cut();
        }
    }

    /// In how many places a PIN is, by what is durable: the cases of `spec/stock-transfer.md`.
    fn owners(&self, pin: u32) -> usize {
        let places = self.nodes.iter().map(|node| {
            usize::from(node.books.held.contains_key(&pin)) + usize::from(node.books.sold.contains(&pin))
        });
        let ways = (0..SELLERS).flat_map(|seller| [true, false].map(|down| (seller, down)));
        let in_transfer = ways.map(|(seller, down)| {
            let (giver, of_giver) = end_of(seller, down);
            let (taker, of_taker) = end_of(seller, !down);
            let taken = &self.nodes[taker].books.links[of_taker];
            let open =
                self.nodes[giver].books.links[of_giver].open.values().filter(|out| out.span.start == pin);
            open.filter(|out| !taken.outcomes.get(&out.number).is_some_and(|(_, accepted)| *accepted)).count()
        });
        places.sum::<usize>() + in_transfer.sum::<usize>()
    }

    /// Nothing is left to happen by itself.
    fn is_at_rest(&self) -> bool {
        let mut steps = Vec::new();
        self.necessary(&mut steps);
        steps.is_empty()
    }

    /// With nothing but what happens by itself everything ends, and both ends of all links agree on how.
    fn comes_to_rest(&self, flaw: Option<Flaw>) -> bool {
        let (mut world, mut steps) = (self.clone(), Vec::new());
        for _ in 0..STEPS_MAX {
            steps.clear();
            world.necessary(&mut steps);
            let Some(step) = steps.first() else { break };
            world.take(*step, flaw);
        }
        let agree = |seller: usize, down: bool| {
            let ((giver, of_giver), (taker, of_taker)) = (end_of(seller, down), end_of(seller, !down));
            let (gave, took) = (&world.nodes[giver], &world.nodes[taker]);
            gave.books.links[of_giver].open.is_empty()
                && gave.ends[of_giver].giver.open_count() == 0
                && took.ends[of_taker].taker.incoming().len() == 0
                && gave.books.links[of_giver].given == took.books.links[of_taker].taken
        };
        let placed = |pin| {
            world
                .nodes
                .iter()
                .filter(|node| node.held.contains_key(&pin) || node.books.sold.contains(&pin))
                .count()
        };
        world.wrong.is_none()
            && world.is_at_rest()
            && (0..SELLERS).all(|seller| agree(seller, true) && agree(seller, false))
            && (0..world.pins).all(|pin| placed(pin) == 1)
    }
}

impl Wire {
    fn queue(&self, down: bool) -> &VecDeque<Message> {
        if down { &self.to_seller } else { &self.to_hub }
    }

    fn queue_mut(&mut self, down: bool) -> &mut VecDeque<Message> {
        if down { &mut self.to_seller } else { &mut self.to_hub }
    }
}

/// The giver's end of a way: its node, and which of its links it is.
fn end_of(seller: usize, down: bool) -> (usize, usize) {
    if down { (0, seller) } else { (1 + seller, 0) }
}

const SELLERS: usize = 2;
/// More than any run without faults takes.
const STEPS_MAX: usize = 200;

/// What is explored: how many PINs there are, and how often what need not happen may happen. With one PIN one transfer follows
/// the other; with two they go side by side.
const WORLDS: [(u32, Left); 3] = [
    (1, Left { transfers: 3, sales: 1, crashes: 2, cuts: 1, repeats: 1, refusals: 1 }),
    (2, Left { transfers: 3, sales: 0, crashes: 2, cuts: 1, repeats: 1, refusals: 0 }),
    (2, Left { transfers: 2, sales: 1, crashes: 1, cuts: 1, repeats: 1, refusals: 1 }),
];

#[test]
fn laws_1_and_3_in_every_state_of_three_transfers_with_crashes_loss_and_repetition() {
    for (pins, left) in WORLDS {
        explore(&format!("{pins} PINs, {left:?}"), Transfers { pins, left, flaw: None });
    }
}

#[test]
fn every_mistake_in_the_owner_is_found() {
    let flaws = [
        Flaw::GiveUpAfterSend,
        Flaw::CancelByTimeOut,
        Flaw::ForgetNumber,
        Flaw::ForgetWatermark,
        Flaw::ForgetOutcomes,
        Flaw::AnswerBeforeDurable,
        Flaw::RecordBeforeContent,
        Flaw::SellBeforeIn,
        Flaw::SellWhatIsGiven,
    ];
    for flaw in flaws {
        find(
            &format!("{flaw:?}"),
            Transfers {
                pins: 2,
                left: Left { transfers: 3, sales: 1, crashes: 1, cuts: 1, repeats: 1, refusals: 1 },
                flaw: Some(flaw),
            },
        );
    }
}
