//! Fail-over: a terminal that loses replies and goes to another seller, two sellers, the hub between them that may crash,
//! be cut off from either, and declare one of them lost, which then comes back with its journal.
//!
//! Written after `spec/wire.md` (sections 10 and 11), `spec/link.md` (Ask and Told) and `spec/hub.md` (lost nodes).

mod seller;
mod terminal;

use crate::explore::{explore, find};
use seller::{Answer, Asker, Fact, Seller, State, fold};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use terminal::{Asked, Kept, Terminal};

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    terminal: Terminal,
    sellers: Vec<Seller>,
    /// A request on its way to each seller; the terminal may have left meanwhile.
    requests: [Option<Asked>; 2],
    /// Whether the hub and each seller hear each other.
    linked: [bool; 2],
    hub: Hub,
    /// The only question between sellers that somebody still waits for, or that is still on its way.
    question: Option<Question>,
    left: Left,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Hub {
    /// How much of each seller's journal it has, durably.
    archived: [usize; 2],
    lost: [bool; 2],
    /// Stock of its own.
    shelf: BTreeSet<u8>,
}

/// A question about another seller's sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Question {
    asked: Asked,
    place: Place,
    /// Whether somebody still waits for it. It goes its way also when not.
    is_wanted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Place {
    ToHub,
    ToSeller,
    AtSeller,
    Told(State),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Left {
    crashes: u8,
    /// How often a link between hub and seller is cut.
    cuts: u8,
    /// How often the terminal loses a connection, with what is on its way to it.
    roams: u8,
    /// How often a customer leaves, or is served by the next sale instead.
    changes: u8,
    declarations: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Connect {
        seller: usize,
    },
    /// The connection is lost, with the reply.
    Leave,
    /// A new sale.
    Begin {
        customer: u8,
    },
    /// A sale is given up, and its customer leaves, or is served by another.
    Abandon {
        sale: usize,
        stays: bool,
    },
    /// The terminal asks about a sale.
    Ask {
        sale: usize,
    },
    Request {
        seller: usize,
    },
    Sync {
        seller: usize,
    },
    /// The hub archives one more fact.
    Ship {
        seller: usize,
    },
    /// The question goes on by one place.
    Pass,
    /// The seller that asked waited long enough.
    TimeOut,
    Heal {
        seller: usize,
    },
    Cut {
        seller: usize,
    },
    Crash {
        seller: usize,
        reached: usize,
    },
    CrashHub,
    DeclareLost {
        seller: usize,
    },
    /// A seller that was declared lost hears of it, and gives back what it has.
    Return {
        seller: usize,
        pin: u8,
    },
    /// The hub takes it.
    TakeBack {
        seller: usize,
        pin: u8,
    },
    /// The hub gives its stock to a seller.
    Allot {
        seller: usize,
        pin: u8,
    },
}

/// Mistakes that somebody could make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    ReplyBeforeDurable,
    ForgetAnswers,
    AnswerForAnother,
    DoubtIsBlocked,
    UnreportedIsBlocked,
    ReallocateUnreachable,
    ResellVoided,
    NumberOfAnother,
    ForgetAbandoned,
}

struct FailOver {
    customers: u8,
    /// What each seller has in the beginning.
    stock: [&'static [u8]; 2],
    left: Left,
    flaw: Option<Flaw>,
}

impl Model for FailOver {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let terminal = Terminal { customers: (0..self.customers).collect(), ..Terminal::default() };
        vec![World {
            terminal,
            sellers: self.stock.map(|pins| Seller::with(pins.iter().copied())).to_vec(),
            requests: [None; 2],
            linked: [true; 2],
            hub: Hub::default(),
            question: None,
            left: self.left,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.necessary(steps);
        world.possible(steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        world.take(step, self.flaw);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut laws = vec![
            Property::always("a PIN has one buyer", |_, world: &World| world.is_sold_once()),
            Property::always("a PIN is in one place", |_, world: &World| world.is_in_one_place()),
            Property::always("what was told for good stays so", |_, world: &World| world.keeps_its_word()),
            Property::always("what was printed stays sold", |_, world: &World| world.stands_by_paper()),
            Property::always("a customer gets one PIN", |_, world: &World| world.serves_each_once()),
            Property::always("without more faults every sale is settled", |model: &Self, world: &World| {
                world.comes_to_rest(model.flaw)
            }),
        ];
        if self.sees_all() {
            laws.extend([
                Property::sometimes("a PIN comes through the other seller", |_, world: &World| {
                    world.terminal.at == Some(1)
                        && world.terminal.printed.contains_key(&(0, 1))
                        && world.terminal.waits_for.is_none()
                        && world
                            .terminal
                            .sales
                            .iter()
                            .any(|sale| sale.kept == Kept::Printed && sale.seller == 0)
                }),
                Property::sometimes("a sequence of a lost seller is unsettled", |_, world: &World| {
                    world.terminal.told.values().any(|state| *state == State::Unsettled)
                }),
                Property::sometimes(
                    "the late journal says that an unsettled sequence was sold",
                    |_, world: &World| {
                        let unsettled =
                            world.terminal.told.iter().filter(|(_, state)| **state == State::Unsettled);
                        let archived = |seller: usize| {
                            fold(&world.sellers[seller].journal[..world.hub.archived[seller]])
                        };
                        unsettled
                            .into_iter()
                            .any(|((seller, sequence), _)| archived(*seller).contains_key(sequence))
                    },
                ),
                Property::sometimes(
                    "what a lost seller gave back is sold by the other",
                    |_, world: &World| {
                        world.hub.lost[0]
                            && world.sellers[1]
                                .journal
                                .iter()
                                .any(|fact| matches!(fact, Fact::Sold { pin: 0 | 1, .. }))
                    },
                ),
            ]);
        }
        laws
    }
}

impl FailOver {
    /// Whether everything that is worth seeing can happen.
    fn sees_all(&self) -> bool {
        let Left { crashes, cuts, roams, declarations, .. } = self.left;
        self.flaw.is_none() && crashes > 0 && cuts > 0 && roams > 1 && declarations > 0
    }
}

impl World {
    /// What happens by itself, sooner or later.
    fn necessary(&self, steps: &mut Vec<Step>) {
        for (seller, of) in self.sellers.iter().enumerate() {
            if self.requests[seller].is_some() {
                steps.push(Step::Request { seller });
            }
            if of.is_syncing() {
                steps.push(Step::Sync { seller });
            }
            if !self.linked[seller] {
                steps.push(Step::Heal { seller });
            } else {
                if self.hub.archived[seller] < of.journal.len() {
                    steps.push(Step::Ship { seller });
                }
                if self.hub.lost[seller] {
                    steps.extend(of.stock.iter().map(|&pin| Step::Return { seller, pin }));
                    let archived = &of.journal[..self.hub.archived[seller]];
                    let given = archived.iter().filter_map(|fact| match fact {
                        Fact::Out { pin } => Some(*pin),
                        _ => None,
                    });
                    let here = |pin: &u8| self.is_with_hub_or_other(seller, *pin);
                    steps.extend(given.filter(|pin| !here(pin)).map(|pin| Step::TakeBack { seller, pin }));
                }
            }
        }
        match self.question {
            Some(Question { place: Place::ToHub | Place::ToSeller | Place::Told(_), .. }) => {
                steps.push(Step::Pass);
            }
            Some(Question { place: Place::AtSeller, .. }) | None => {}
        }
        // The question was lost on its way.
        if self.waits_for_another() && !self.is_wanted() {
            steps.push(Step::TimeOut);
        }
    }

    /// What somebody decides, and faults.
    fn possible(&self, steps: &mut Vec<Step>) {
        let Self { terminal, left, .. } = self;
        match terminal.at {
            None => steps.extend((0..2).map(|seller| Step::Connect { seller })),
            Some(_) => {
                if left.roams > 0 {
                    steps.push(Step::Leave);
                }
                if terminal.waits_for.is_none() {
                    steps.extend(terminal.customers.first().map(|&customer| Step::Begin { customer }));
                    steps.extend((0..terminal.sales.len()).map(|sale| Step::Ask { sale }));
                    if left.changes > 0 {
                        let asked = terminal.sales.iter().enumerate();
                        let asked =
                            asked.filter(|(_, sale)| matches!(sale.kept, Kept::Asked | Kept::AskedAndSold));
                        steps.extend(
                            asked.flat_map(|(sale, _)| {
                                [true, false].map(|stays| Step::Abandon { sale, stays })
                            }),
                        );
                    }
                }
            }
        }
        for seller in 0..2 {
            if left.cuts > 0 && self.linked[seller] {
                steps.push(Step::Cut { seller });
            }
            if left.declarations > 0 && !self.linked[seller] && seller == 0 {
                steps.push(Step::DeclareLost { seller });
            }
            if left.crashes > 0 {
                let unsynced = self.sellers[seller].unsynced();
                steps.extend((0..=unsynced).map(|reached| Step::Crash { seller, reached }));
            }
            if self.linked[seller] && !self.hub.lost[seller] {
                steps.extend(self.hub.shelf.iter().map(|&pin| Step::Allot { seller, pin }));
            }
        }
        if left.crashes > 0 && self.question.is_some() {
            steps.push(Step::CrashHub);
        }
        if self.waits_for_another() && self.is_wanted() {
            steps.push(Step::TimeOut);
        }
    }

    fn take(&mut self, step: Step, flaw: Option<Flaw>) {
        match step {
            Step::Connect { seller } => {
                // The new session ends an older one, with what it had on its way.
                self.requests[seller] = None;
                self.sellers[seller].forget(|asker| asker == Asker::Terminal);
                self.terminal.at = Some(seller);
            }
            Step::Leave => {
                self.left.roams -= 1;
                self.leave();
            }
            Step::Begin { customer } => {
                let seller = self.terminal.at.expect("it is connected");
                self.terminal.begin(customer, self.sellers[seller].next_sequence());
            }
            Step::Abandon { sale, stays } => {
                self.left.changes -= 1;
                let sale = &mut self.terminal.sales[sale];
                sale.kept = Kept::Abandoned;
                let (seller, sequence, customer) = (sale.seller, sale.sequence, sale.customer);
                if stays {
                    self.terminal.customers.insert(customer);
                }
                if flaw == Some(Flaw::ForgetAbandoned) {
                    self.terminal.sales.retain(|sale| (sale.seller, sale.sequence) != (seller, sequence));
                }
            }
            Step::Ask { sale } => {
                let asked = self.terminal.question(&self.terminal.sales[sale], flaw);
                let seller = self.terminal.at.expect("it is connected");
                self.terminal.waits_for = Some(asked);
                self.requests[seller] = Some(asked);
            }
            Step::Request { seller } => {
                let asked = self.requests[seller].take().expect("there is one");
                if asked.seller == seller || flaw == Some(Flaw::AnswerForAnother) {
                    self.sellers[seller].handle(Asker::Terminal, asked.sequence, asked.action, flaw);
                    self.release(seller, flaw);
                } else if self.terminal.at == Some(seller) && self.terminal.waits_for == Some(asked) {
                    // One that was asked before in vain has come to its end by now, or comes to nothing.
                    self.forget_question();
                    let question = Question { asked, place: Place::ToHub, is_wanted: true };
                    self.question = self.linked[seller].then_some(question);
                }
            }
            Step::Sync { seller } => {
                self.sellers[seller].sync();
                self.release(seller, flaw);
            }
            Step::Ship { seller } => self.hub.archived[seller] += 1,
            Step::Pass => self.pass(flaw),
            Step::TimeOut => {
                let state = if flaw == Some(Flaw::DoubtIsBlocked) {
                    State::Is(Answer::Blocked)
                } else {
                    State::InDoubt
                };
                self.give_up_question();
                self.tell(state, flaw);
            }
            Step::Heal { seller } => {
                self.linked[seller] = true;
                self.sellers[seller].knows_it_is_lost |= self.hub.lost[seller];
            }
            Step::Cut { seller } => {
                self.left.cuts -= 1;
                self.cut(seller);
            }
            Step::Crash { seller, reached } => {
                self.left.crashes -= 1;
                self.cut(seller);
                self.requests[seller] = None;
                if self.terminal.at == Some(seller) {
                    self.leave();
                }
                self.sellers[seller].crash(reached, flaw);
            }
            Step::CrashHub => {
                self.left.crashes -= 1;
                (0..2).for_each(|seller| self.cut(seller));
            }
            Step::DeclareLost { seller } => {
                self.left.declarations -= 1;
                self.hub.lost[seller] = true;
                if flaw == Some(Flaw::ReallocateUnreachable) {
                    let sold: BTreeSet<_> =
                        sold(&self.sellers[seller].journal[..self.hub.archived[seller]]).collect();
                    self.hub.shelf.extend(self.sellers[seller].received.difference(&sold));
                }
            }
            Step::Return { seller, pin } => self.sellers[seller].give_back(pin),
            Step::TakeBack { pin, .. } => _ = self.hub.shelf.insert(pin),
            Step::Allot { seller, pin } => {
                self.hub.shelf.remove(&pin);
                self.sellers[seller].received.insert(pin);
                self.sellers[seller].stock.insert(pin);
            }
        }
    }

    /// The terminal is not connected any more.
    fn leave(&mut self) {
        self.terminal.at = None;
        self.terminal.waits_for = None;
        self.give_up_question();
        self.sellers.iter_mut().for_each(|seller| seller.forget(|asker| asker == Asker::Terminal));
    }

    fn cut(&mut self, seller: usize) {
        self.linked[seller] = false;
        // What it was asked, and what it asked, is forgotten by the hub; what it does already it does.
        self.forget_question();
    }

    fn give_up_question(&mut self) {
        if let Some(question) = &mut self.question {
            question.is_wanted = false;
        }
    }

    fn is_wanted(&self) -> bool {
        self.question.is_some_and(|question| question.is_wanted)
    }

    fn forget_question(&mut self) {
        self.question = None;
        self.sellers.iter_mut().for_each(|seller| seller.forget(|asker| asker != Asker::Terminal));
    }

    /// The terminal waits for something that its seller does not answer for.
    fn waits_for_another(&self) -> bool {
        let Terminal { at, waits_for, .. } = &self.terminal;
        waits_for.is_some_and(|asked| {
            *at != Some(asked.seller) && at.is_some_and(|at| self.requests[at].is_none())
        })
    }

    fn pass(&mut self, flaw: Option<Flaw>) {
        let Question { asked, place, is_wanted } = self.question.expect("there is one");
        let next = match place {
            Place::ToHub if self.hub.lost[asked.seller] => Place::Told(self.archived_answer(asked, flaw)),
            Place::ToHub if self.linked[asked.seller] => Place::ToSeller,
            Place::ToHub => Place::Told(State::InDoubt),
            Place::ToSeller => {
                self.question = Some(Question { asked, place: Place::AtSeller, is_wanted });
                self.sellers[asked.seller].handle(Asker::Question, asked.sequence, asked.action, flaw);
                return self.release(asked.seller, flaw);
            }
            Place::AtSeller => Place::AtSeller,
            Place::Told(state) => {
                self.question = None;
                if is_wanted {
                    self.tell(state, flaw);
                }
                return;
            }
        };
        self.question = Some(Question { asked, place: next, is_wanted });
    }

    /// What the hub says for a seller that is lost.
    fn archived_answer(&self, asked: Asked, flaw: Option<Flaw>) -> State {
        let archived = fold(&self.sellers[asked.seller].journal[..self.hub.archived[asked.seller]]);
        match archived.get(&asked.sequence) {
            Some(Answer::Sold(_)) => State::SoldSomething,
            // Nobody may print it now: what is confirmed was printed.
            Some(answer) => State::Is(*answer),
            None if flaw == Some(Flaw::UnreportedIsBlocked) => State::Is(Answer::Blocked),
            None => State::Unsettled,
        }
    }

    fn release(&mut self, seller: usize, flaw: Option<Flaw>) {
        for reply in self.sellers[seller].released() {
            match reply.asker {
                Asker::Terminal => {
                    if self.terminal.at == Some(seller)
                        && self.terminal.waits_for.is_some_and(|asked| asked.sequence == reply.sequence)
                    {
                        self.tell(reply.state, flaw);
                    }
                }
                Asker::Question => {
                    if let Some(question) = &mut self.question
                        && question.place == Place::AtSeller
                    {
                        question.place = Place::Told(reply.state);
                    }
                }
            }
        }
    }

    fn tell(&mut self, state: State, flaw: Option<Flaw>) {
        if let Some(asked) = self.terminal.waits_for.take() {
            self.terminal.hear(asked, state, flaw);
        }
    }

    /// A PIN that a seller has given up is on the shelf, or at the other seller.
    fn is_with_hub_or_other(&self, seller: usize, pin: u8) -> bool {
        self.hub.shelf.contains(&pin) || self.sellers[1 - seller].received.contains(&pin)
    }

    fn is_sold_once(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.sellers.iter().flat_map(|seller| sold(&seller.journal)).all(|pin| seen.insert(pin))
    }

    fn is_in_one_place(&self) -> bool {
        let mut seen = self.hub.shelf.clone();
        self.sellers.iter().all(|of| {
            let is_given_back = |pin: &u8| of.journal.contains(&Fact::Out { pin: *pin });
            of.received.iter().filter(|pin| !is_given_back(pin)).all(|&pin| seen.insert(pin))
        })
    }

    fn keeps_its_word(&self) -> bool {
        let durable: Vec<_> = self.sellers.iter().map(|seller| fold(&seller.journal)).collect();
        self.terminal.told.iter().all(|((seller, sequence), state)| match state {
            State::Is(answer) => durable[*seller].get(sequence) == Some(answer),
            // The seller may have sold it: nobody knew.
            State::Unsettled => self.hub.lost[*seller],
            State::Later | State::SoldSomething | State::InDoubt => false,
        })
    }

    fn stands_by_paper(&self) -> bool {
        let durable: Vec<_> = self.sellers.iter().map(|seller| fold(&seller.journal)).collect();
        !self.terminal.printed_twice
            && self.terminal.printed.iter().all(|((seller, sequence), (pin, _))| {
                let answer = durable[*seller].get(sequence);
                answer == Some(&Answer::Sold(*pin)) || answer == Some(&Answer::Confirmed(*pin))
            })
    }

    fn serves_each_once(&self) -> bool {
        let mut served = BTreeSet::new();
        self.terminal.printed.values().all(|(_, customer)| served.insert(*customer))
    }

    /// With nothing but what happens by itself, and a terminal that asks about all that it has, all is settled: but what a
    /// lost seller sold and told nobody the PIN of.
    fn comes_to_rest(&self, flaw: Option<Flaw>) -> bool {
        let mut world = self.clone();
        world.run_down(flaw);
        for _ in 0..SALES_MAX {
            let Some(sale) = world.terminal.sales.first().copied() else { break };
            world.leave();
            world.take(Step::Connect { seller: sale.seller }, flaw);
            for _ in 0..SALES_MAX {
                let is_same =
                    |other: &terminal::Sale| (other.seller, other.sequence) == (sale.seller, sale.sequence);
                let Some(sale) = world.terminal.sales.iter().position(is_same) else { break };
                world.take(Step::Ask { sale }, flaw);
                world.run_down(flaw);
            }
            if world.terminal.sales.len() > 1 {
                world.terminal.sales.rotate_left(1);
            }
        }
        let is_known = |seller: usize, sequence: u8| {
            let told = world.terminal.told.get(&(seller, sequence));
            told == Some(&State::Unsettled)
                || world.terminal.sales.iter().any(|sale| (sale.seller, sale.sequence) == (seller, sequence))
        };
        let unsettled = world.sellers.iter().enumerate().flat_map(|(seller, of)| {
            let sold = fold(&of.journal).into_iter().filter(|(_, answer)| matches!(answer, Answer::Sold(_)));
            sold.map(move |(sequence, _)| (seller, sequence))
        });
        let waits_for_stock = |sale: &terminal::Sale| {
            sale.kept == Kept::Asked
                && (world.sellers[sale.seller].stock.is_empty() || world.hub.lost[sale.seller])
        };
        world.terminal.sales.iter().all(waits_for_stock)
            && unsettled.into_iter().all(|(seller, sequence)| is_known(seller, sequence))
    }

    fn run_down(&mut self, flaw: Option<Flaw>) {
        let mut steps = Vec::new();
        for _ in 0..STEPS_MAX {
            steps.clear();
            self.necessary(&mut steps);
            let Some(step) = steps.first() else { return };
            self.take(*step, flaw);
        }
        panic!("it never comes to rest");
    }
}

fn sold(journal: &[Fact]) -> impl Iterator<Item = u8> {
    journal.iter().filter_map(|fact| match fact {
        Fact::Sold { pin, .. } => Some(*pin),
        _ => None,
    })
}

const FEW: [&[u8]; 2] = [&[0], &[1]];
const MANY: [&[u8]; 2] = [&[0, 1], &[2]];
const SALES_MAX: usize = 8;
const STEPS_MAX: usize = 100;

/// What is explored: how many customers there are, what the sellers have, and how often what need not happen may happen.
const WORLDS: [(u8, [&[u8]; 2], Left); 4] = [
    (1, FEW, Left { crashes: 1, cuts: 1, roams: 2, changes: 0, declarations: 1 }),
    (1, FEW, Left { crashes: 2, cuts: 1, roams: 2, changes: 0, declarations: 0 }),
    (1, FEW, Left { crashes: 1, cuts: 0, roams: 1, changes: 1, declarations: 0 }),
    (1, FEW, Left { crashes: 0, cuts: 1, roams: 1, changes: 1, declarations: 1 }),
];

#[test]
fn law_4_in_every_state_of_a_terminal_that_goes_to_another_seller() {
    for (customers, stock, left) in WORLDS {
        explore(&format!("{customers} customers, {left:?}"), FailOver { customers, stock, left, flaw: None });
    }
}

#[test]
fn every_mistake_in_fail_over_is_found() {
    let flaws = [
        Flaw::ReplyBeforeDurable,
        Flaw::ForgetAnswers,
        Flaw::AnswerForAnother,
        Flaw::DoubtIsBlocked,
        Flaw::UnreportedIsBlocked,
        Flaw::ReallocateUnreachable,
        Flaw::ResellVoided,
        Flaw::NumberOfAnother,
        Flaw::ForgetAbandoned,
    ];
    for flaw in flaws {
        find(
            &format!("{flaw:?}"),
            FailOver {
                customers: 2,
                stock: MANY,
                left: Left { crashes: 1, cuts: 1, roams: 2, changes: 1, declarations: 1 },
                flaw: Some(flaw),
            },
        );
    }
}
