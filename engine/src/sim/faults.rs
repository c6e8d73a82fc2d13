//! The kinds of faults, by the names that they have on the command line.

use std::fmt;
use std::str::FromStr;

macro_rules! kinds {
    ($($name:ident = $word:literal, $weight:literal, $what:literal;)*) => {
        /// What goes wrong, or is done by somebody at a bad moment.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Kind {
            $(#[doc = $what] $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What happens.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }

            /// How often it happens, compared with others.
            pub(super) const fn weight(self) -> u64 {
                match self { $(Self::$name => $weight,)* }
            }
        }
    };
}

kinds! {
    Kill = "kill", 8, "A node's process ends and starts again.";
    PowerLoss = "power-loss", 8, "A node loses power; what was not synced is lost, kept or torn, sector by sector.";
    KillThenPower = "kill-then-power", 8, "A node's process ends, another starts and answers, and then the power goes.";
    KillHub = "kill-hub", 6, "The hub's process ends and starts again, at times with a loss of power.";
    HubAway = "hub-away", 2, "The hub is gone for a while, at times for hours.";
    Cut = "cut", 10, "A link is cut; each end hears of it in its own time.";
    Partition = "partition", 5, "A link is cut and stays so for a while.";
    Stall = "stall", 5, "One direction of a link stands still until it moves again or the link is cut.";
    Slow = "slow", 4, "A link is slow for a while.";
    Reconnect = "reconnect", 40, "A terminal connects anew.";
    RelayDies = "relay-dies", 4, "A relay's process ends; what it had said may arrive late.";
    RelayCut = "relay-cut", 4, "A relay's connections with its server are cut.";
    RelayPause = "relay-pause", 4, "A relay stands still for a while.";
    RelayRenew = "relay-renew", 3, "A relay goes to another server, with all its terminals.";
    Roam = "roam", 12, "A terminal goes to another seller.";
    Wipe = "wipe", 4, "A terminal loses its storage.";
    Rekey = "rekey", 2, "A terminal gets a new key.";
    DamageRecord = "damage-record", 3, "A PIN's record in stock decays where it lies.";
    Decay = "decay", 2, "A bit decays in any file: whoever starts on it must stop, or lose nothing.";
    FullDisk = "full-disk", 3, "A disk is full, or nearly.";
    RefuseWrite = "refuse-write", 4, "There is no room for one segment that comes.";
    FailSync = "fail-sync", 3, "A sync fails soon: whoever needed it must stop.";
    Room = "room", 10, "There is room on all disks.";
    ClockJump = "clock-jump", 1, "The wall clocks jump, at times by a day or two.";
    ClockSkew = "clock-skew", 1, "A node's wall clock is off.";
    Suspend = "suspend", 2, "The dealer is suspended.";
    Activate = "activate", 30, "The dealer is active.";
    Drain = "drain", 6, "A node goes offline, or comes back.";
    DrainHub = "drain-hub", 3, "The hub goes offline.";
    UndrainHub = "undrain-hub", 10, "The hub comes back.";
    Marks = "marks", 3, "A node is started with other marks, so that stock is called back or sent.";
    Lose = "lose", 3, "A node that cannot be reached is declared lost; at times it comes back later.";
    WriteOff = "write-off", 2, "Of what is in doubt at lost nodes something is written off.";
    Leave = "leave", 4, "A node drains, stops when it has nothing left, and its record is closed.";
    OldCopy = "old-copy", 2, "A node is started on an old copy of its disk; it is found out at its first contact.";
    OldHub = "old-hub", 2, "The hub is started on an old copy; it is found out at the first contact with who knows more.";
    Deliver = "deliver", 2, "More PINs arrive.";
    Audit = "audit", 3, "Law 1 is audited while everything runs.";
}

/// A set of kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u64);

impl Kinds {
    /// Every kind.
    #[must_use]
    pub fn all() -> Self {
        Kind::ALL.iter().copied().collect()
    }

    /// Whether a kind is in it.
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        self.0 >> kind as u64 & 1 == 1
    }

    /// Takes a kind out.
    pub fn remove(&mut self, kind: Kind) {
        self.0 &= !(1 << kind as u64);
    }

    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(move |kind| self.has(*kind))
    }

    fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u64)
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self(0), Self::with)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Kind::word).collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

impl FromStr for Kinds {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let words = words.split(',').filter(|word| !word.is_empty() && *word != "none");
        words.map(str::parse).try_fold(Self(0), |kinds, kind: Result<Kind, _>| Ok(kinds.with(kind?)))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|kind| kind.word() == word);
        found.ok_or_else(|| format!("there is no fault of the kind {word}"))
    }
}

/// What happens in every run, whatever else does.
pub(super) const CRASHES: [Kind; 4] = [Kind::PowerLoss, Kind::KillHub, Kind::Kill, Kind::KillThenPower];
