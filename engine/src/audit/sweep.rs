//! One walk over each block, along all borders of what anyone claims.

use super::report::{Finding, FindingKind, Report, Tally};
use super::{BelowBook, HubBooks, PieceBook, ReturnedBook, SellerBooks};
use crate::hub::books::Place;
use crate::ids::{BlockId, SellerId, VarietyId};
use std::collections::{BTreeMap, BTreeSet};

/// Someone's word on a range of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// The hub received these.
    Received,
    /// The hub has them.
    AtHub,
    /// The hub gave them, and the seller had not taken them yet.
    InTransfer(u32),
    /// The hub gave them, and the seller's books are not there or the seller is lost.
    InDoubt(u32),
    /// An operator wrote them off while they were in doubt.
    WrittenOff,
    /// The hub gave them and the seller took them, under this generation. No place: the seller must say so too.
    Taken(u32, u32),
    /// A seller gave them to a node below, which took them, under this generation. No place: that node must say so too.
    Passed(u32, u32, u32),
    /// A node below gave them back under this generation: what it had under a lower one it has no more. No place.
    CameBack(u32, u32),
    /// A seller gave them to a node below, which had not taken them yet.
    PassedInTransfer(u32, u32),
    /// A seller gave them to a node below whose books are not there.
    PassedInDoubt(u32, u32),
    /// A seller has them, under this generation and variety; whether they came back from below.
    Stock(u32, u32, u32, bool),
    /// A seller sold them. Comes on top of [`Claim::Stock`].
    Sold(u32),
    /// A seller withdrew them. Comes on top of [`Claim::Stock`].
    Withdrawn(u32),
    /// A seller gave them back, having had them under this generation and variety, and upstream has not taken them; whether they
    /// had come back from below.
    Returning(u32, u32, u32, bool),
    /// The hub has taken them back from a seller after the seller's books were read: these say too much then. No place.
    Returned(u32),
}

/// The lost sellers, and whether their books were read up to where the hub had taken them into account.
type Lost = BTreeMap<u32, bool>;

#[derive(Default)]
struct Block {
    variety: u32,
    claims: Vec<(u32, u32, Claim)>,
}

pub(super) fn sweep(hub: &HubBooks, sellers: &[SellerBooks]) -> Report {
    let mut report = Report { balanced: false, ..Report::default() };
    let mut blocks: BTreeMap<BlockId, Block> = BTreeMap::new();
    for block in &hub.blocks {
        report.varieties.entry(block.variety.0).or_default().received += u64::from(block.count);
        let entry = blocks.entry(block.block).or_default();
        entry.variety = block.variety.0;
        entry.claims.push((0, block.count, Claim::Received));
    }
    let by_seller: BTreeMap<SellerId, _> = sellers.iter().map(|books| (books.seller, books)).collect();
    for piece in &hub.pieces {
        let claim = claim_of(piece, &by_seller);
        let claims = &mut blocks.entry(piece.span.block).or_default().claims;
        claims.push((piece.span.start, piece.span.end, claim));
    }
    for returned in &hub.returned {
        // What a seller's books know of is not in its stock by them.
        if by_seller.get(&returned.seller).is_some_and(|books| returned.number > books.given) {
            let claims = &mut blocks.entry(returned.span.block).or_default().claims;
            claims.push((returned.span.start, returned.span.end, Claim::Returned(returned.seller.0)));
        }
    }
    // What was written off at a lost node and has come back to its server is in stock there until the hub takes it.
    for doubt in hub.doubts.iter().filter(|doubt| hub.lost.contains_key(&doubt.seller)) {
        let claim = if doubt.is_written_off { Claim::WrittenOff } else { Claim::InDoubt(doubt.seller.0) };
        blocks.entry(doubt.span.block).or_default().claims.push((doubt.span.start, doubt.span.end, claim));
    }
    for books in sellers {
        let seller = books.seller.0;
        for returning in books.returning.iter().filter(|returning| !has_taken(hub, books, returning.number)) {
            let claims = &mut blocks.entry(returning.span.block).or_default().claims;
            let came_back = returning.from != SellerId(0);
            let claim = Claim::Returning(seller, returning.generation, returning.variety.0, came_back);
            claims.push((returning.span.start, returning.span.end, claim));
        }
        report.positions.insert(seller, books.position);
        for below in &books.below {
            let claims = &mut blocks.entry(below.span.block).or_default().claims;
            claims.push((below.span.start, below.span.end, claim_below(seller, below, &by_seller)));
        }
        for back in &books.came_back {
            let claims = &mut blocks.entry(back.span.block).or_default().claims;
            claims.push((back.span.start, back.span.end, Claim::CameBack(back.node.0, back.generation)));
        }
        for segment in &books.segments {
            let claims = &mut blocks.entry(segment.span.block).or_default().claims;
            let VarietyId(variety) = segment.variety;
            let stock = Claim::Stock(seller, segment.generation, variety, segment.from != SellerId(0));
            claims.push((segment.span.start, segment.span.end, stock));
            claims.extend(segment.sold.iter().map(|&(start, end)| (start, end, Claim::Sold(seller))));
            claims
                .extend(segment.withdrawn.iter().map(|&(start, end)| (start, end, Claim::Withdrawn(seller))));
        }
    }
    let position = |seller: &SellerId| by_seller.get(seller).map(|books| books.position);
    let lost: Lost =
        hub.lost.iter().map(|(seller, known)| (seller.0, position(seller) == Some(*known))).collect();
    for (id, block) in blocks {
        walk(id, block, &lost, &mut report);
    }
    let off = report.varieties.values().any(|tally| tally.difference() != 0);
    report.balanced = report.findings.is_empty() && !off;
    report
}

/// Whether the hub has taken what a seller gave back. An outcome that it has forgotten by now the seller learned after its
/// books were read, and not long ago.
fn has_taken(hub: &HubBooks, seller: &SellerBooks, number: u64) -> bool {
    let known = hub.takers.get(&seller.seller).and_then(|taker| taker.outcomes.get(&number).copied());
    let is_this = |returned: &ReturnedBook| (returned.seller, returned.number) == (seller.seller, number);
    known.unwrap_or_else(|| hub.returned.iter().any(is_this))
}

fn claim_of(piece: &PieceBook, sellers: &BTreeMap<SellerId, &SellerBooks>) -> Claim {
    let (node, stream, number) = match piece.place {
        Place::Hub => return Claim::AtHub,
        Place::Withdrawn => return Claim::WrittenOff,
        Place::Given { node, stream, number, .. } => (node, stream, number),
    };
    match sellers.get(&node) {
        None => Claim::InDoubt(node.0),
        Some(books) if number > books.watermarks[stream as usize] => Claim::InTransfer(node.0),
        // Refused: on its way back.
        Some(books) if books.refused.contains(&(stream, number)) => Claim::InTransfer(node.0),
        Some(_) => Claim::Taken(node.0, piece.generation),
    }
}

/// What became of what a seller gave to a node below, whose books are no newer than the seller's.
fn claim_below(seller: u32, below: &BelowBook, sellers: &BTreeMap<SellerId, &SellerBooks>) -> Claim {
    let &BelowBook { node, stream, number, generation, .. } = below;
    match sellers.get(&node) {
        None => Claim::PassedInDoubt(seller, node.0),
        Some(books) if number > books.watermarks[stream as usize] => Claim::PassedInTransfer(seller, node.0),
        Some(books) if books.refused.contains(&(stream, number)) => Claim::PassedInTransfer(seller, node.0),
        Some(_) => Claim::Passed(seller, node.0, generation),
    }
}

/// Goes along a block from border to border.
fn walk(id: BlockId, block: Block, lost: &Lost, report: &mut Report) {
    let mut borders = BTreeSet::new();
    let mut starts = block.claims;
    starts.retain(|(start, end, _)| start < end);
    for (start, end, _) in &starts {
        borders.extend([*start, *end]);
    }
    starts.sort_unstable_by_key(|(start, ..)| *start);
    let mut starts = starts.into_iter().peekable();
    let mut active: Vec<(u32, Claim)> = Vec::new();
    let mut borders = borders.into_iter().peekable();
    while let (Some(start), Some(&end)) = (borders.next(), borders.peek()) {
        active.retain(|(until, _)| *until > start);
        while let Some((_, until, claim)) = starts.next_if(|(from, ..)| *from == start) {
            active.push((until, claim));
        }
        let claims: Vec<Claim> = active.iter().map(|(_, claim)| *claim).collect();
        if !claims.is_empty() {
            judge(id, block.variety, start, end, &without_doubted(&claims, lost), lost, report);
        }
    }
}

/// Counts a range in which all PINs are claimed alike, or says what is wrong with it.
fn judge(
    id: BlockId,
    variety: u32,
    start: u32,
    end: u32,
    claims: &[Claim],
    lost: &Lost,
    report: &mut Report,
) {
    let claims = &without_returned(claims)[..];
    let count = |wanted: fn(&Claim) -> bool| claims.iter().filter(|claim| wanted(claim)).count();
    let received = count(|c| matches!(c, Claim::Received));
    let elsewhere =
        count(|c| matches!(c, Claim::AtHub | Claim::InTransfer(_) | Claim::InDoubt(_) | Claim::WrittenOff));
    let moving =
        count(|c| matches!(c, Claim::Returning(..) | Claim::PassedInTransfer(..) | Claim::PassedInDoubt(..)));
    let stocks = moving + count(|c| matches!(c, Claim::Stock(..)));
    let passed = count(|c| matches!(c, Claim::Passed(..)));
    let gone = count(|c| matches!(c, Claim::Sold(_) | Claim::Withdrawn(_)));
    let given = count(|c| matches!(c, Claim::Taken(..)));

    let kind = if received == 0 {
        Some(FindingKind::Unknown)
    } else if received > 1 || elsewhere + given > 1 || elsewhere + stocks > 1 || gone > 1 || passed > 1 {
        Some(FindingKind::Twice)
    } else if elsewhere + stocks == 0 {
        Some(if gone > 0 { FindingKind::Misplaced } else { FindingKind::Missing })
    } else if elsewhere + moving > 0 && gone > 0 {
        Some(FindingKind::Twice)
    } else if gone == 0 && claims.iter().any(|claim| is_undoubted(*claim, lost)) {
        Some(FindingKind::Misplaced)
    } else if stocks == 1 {
        mismatch(variety, claims)
    } else if passed > 0 {
        Some(FindingKind::Misplaced)
    } else {
        None
    };
    if let Some(kind) = kind {
        found(
            Finding {
                kind,
                variety,
                block: id.0,
                start,
                end,
                places: claims.iter().filter_map(|claim| claim.in_words()).collect(),
                serials: None,
            },
            report,
        );
        return;
    }
    let tally = report.varieties.entry(variety).or_default();
    let is_place = |c: &&Claim| {
        !matches!(c, Claim::Received | Claim::Taken(..) | Claim::Passed(..) | Claim::CameBack(..))
    };
    let place = claims.iter().filter(is_place).max();
    *tally.column(place) += u64::from(end - start);
}

/// Leaves out what a lost seller's books say of what is in doubt, and what was said to have been given to it: what it says it sold or
/// withdrew stays, and is one place too many.
fn without_doubted(claims: &[Claim], lost: &Lost) -> Vec<Claim> {
    if !claims.iter().any(|claim| matches!(claim, Claim::InDoubt(_) | Claim::WrittenOff)) {
        return claims.to_vec();
    }
    let is_lost = |seller: u32| lost.contains_key(&seller);
    // It was given to a server, which passed it on to a lost one.
    let passed = |server: u32| {
        claims.iter().any(|claim| match *claim {
            Claim::Passed(by, to, _) | Claim::PassedInTransfer(by, to) => by == server && is_lost(to),
            _ => false,
        })
    };
    let stays = |claim: &&Claim| match **claim {
        Claim::Stock(seller, ..) | Claim::Returning(seller, ..) | Claim::InTransfer(seller) => {
            !is_lost(seller)
        }
        Claim::Taken(seller, _) => !is_lost(seller) && !passed(seller),
        Claim::Passed(_, to, _) | Claim::PassedInTransfer(_, to) => !is_lost(to),
        _ => true,
    };
    claims.iter().filter(stays).copied().collect()
}

/// Whether a lost seller holds them and the hub, knowing as much of its journal, does not say that they are in doubt.
fn is_undoubted(claim: Claim, lost: &Lost) -> bool {
    match claim {
        Claim::Stock(seller, ..) => lost.get(&seller) == Some(&true),
        _ => false,
    }
}

/// Leaves out what a seller has by books that are older than its return, and what it had passed on by then. What was sold
/// stays: that is never returned.
fn without_returned(claims: &[Claim]) -> Vec<Claim> {
    let has_returned = |seller: u32| claims.contains(&Claim::Returned(seller));
    // What a node below had under a lower generation came back from it.
    let came_back = |node: u32, had: u32| {
        claims
            .iter()
            .any(|claim| matches!(*claim, Claim::CameBack(from, under) if from == node && had < under))
    };
    let was_passed_by_one_that_returned = |node: u32| {
        claims
            .iter()
            .any(|claim| matches!(*claim, Claim::Passed(by, to, _) if to == node && has_returned(by)))
    };
    let stays = |claim: &&Claim| match **claim {
        Claim::Stock(seller, had, ..) | Claim::Returning(seller, had, ..) => {
            !has_returned(seller) && !came_back(seller, had) && !was_passed_by_one_that_returned(seller)
        }
        Claim::Passed(by, ..) | Claim::PassedInTransfer(by, _) | Claim::PassedInDoubt(by, _) => {
            !has_returned(by)
        }
        Claim::Returned(_) => false,
        _ => true,
    };
    claims.iter().filter(stays).copied().collect()
}

/// Whether the one seller that has a range is the one it was given to, under the right generation and variety.
fn mismatch(variety: u32, claims: &[Claim]) -> Option<FindingKind> {
    let given = claims.iter().find_map(|claim| match *claim {
        Claim::Taken(seller, generation) => Some((seller, generation)),
        _ => None,
    });
    let passed = claims.iter().find_map(|claim| match *claim {
        Claim::Passed(by, to, generation) => Some((by, to, generation)),
        Claim::PassedInTransfer(by, to) | Claim::PassedInDoubt(by, to) => Some((by, to, 0)),
        _ => None,
    });
    let Some((given_to, given_under)) = given else { return Some(FindingKind::Misplaced) };
    if passed.is_some_and(|(by, ..)| by != given_to) {
        return Some(FindingKind::Misplaced);
    }
    let holder = claims.iter().find_map(|claim| match *claim {
        Claim::Stock(seller, generation, of, came_back)
        | Claim::Returning(seller, generation, of, came_back) => Some((seller, generation, of, came_back)),
        _ => None,
    });
    // On its way to a node below.
    let (holder, held, held_variety, came_back) = holder?;
    let gone_elsewhere = claims.iter().any(|claim| match *claim {
        Claim::Sold(seller) | Claim::Withdrawn(seller) => seller != holder,
        _ => false,
    });
    let (should_hold, under) = passed.map_or((given_to, given_under), |(_, to, generation)| (to, generation));
    if holder != should_hold || gone_elsewhere {
        return Some(FindingKind::Misplaced);
    }
    // What came back from below has a higher one than it was given under.
    let is_right = if came_back { held > under } else { held == under };
    (!is_right || held_variety != variety).then_some(FindingKind::Mismatched)
}

/// Adds a finding, or makes the one before it longer.
fn found(finding: Finding, report: &mut Report) {
    if let Some(last) = report.findings.last_mut()
        && (last.block, last.end, last.kind) == (finding.block, finding.start, finding.kind)
        && last.places == finding.places
    {
        last.end = finding.end;
        return;
    }
    report.findings.push(finding);
}

impl Claim {
    fn in_words(self) -> Option<String> {
        Some(match self {
            Self::Received => return None,
            Self::AtHub => "in the hub's inventory".into(),
            Self::InTransfer(seller) => format!("in transfer to seller {seller}"),
            Self::InDoubt(seller) => format!("in doubt at seller {seller}"),
            Self::WrittenOff => "written off".into(),
            Self::Taken(seller, generation) => {
                format!("given to seller {seller} under generation {generation}")
            }
            Self::Passed(seller, node, generation) => {
                format!("given by seller {seller} to node {node} below it under generation {generation}")
            }
            Self::CameBack(node, generation) => {
                format!("came back from node {node} under generation {generation}")
            }
            Self::PassedInTransfer(seller, node) => {
                format!("in transfer from seller {seller} to node {node} below it")
            }
            Self::PassedInDoubt(seller, node) => {
                format!("given by seller {seller} to node {node} below it, whose books are not there")
            }
            Self::Stock(seller, generation, variety, _) => {
                format!("held by seller {seller} under generation {generation} as variety {variety}")
            }
            Self::Returning(seller, generation, ..) => {
                format!("given back by seller {seller}, which had them under generation {generation}")
            }
            Self::Returned(seller) => format!("taken back from seller {seller} since"),
            Self::Sold(seller) => format!("sold by seller {seller}"),
            Self::Withdrawn(seller) => format!("withdrawn by seller {seller}"),
        })
    }
}

impl Tally {
    fn column(&mut self, place: Option<&Claim>) -> &mut u64 {
        match place {
            Some(Claim::InTransfer(_) | Claim::Returning(..) | Claim::PassedInTransfer(..)) => {
                &mut self.in_transfer
            }
            Some(Claim::InDoubt(_) | Claim::PassedInDoubt(..)) => &mut self.in_doubt,
            Some(Claim::Stock(..)) => &mut self.at_seller,
            Some(Claim::Sold(_)) => &mut self.sold,
            Some(Claim::Withdrawn(_) | Claim::WrittenOff) => &mut self.withdrawn,
            Some(
                Claim::AtHub
                | Claim::Received
                | Claim::Taken(..)
                | Claim::Passed(..)
                | Claim::CameBack(..)
                | Claim::Returned(_),
            )
            | None => &mut self.hub,
        }
    }
}
