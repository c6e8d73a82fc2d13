//! Faults planted on purpose, so that the simulator can show that it would find them.
//!
//! Without the feature `planted`, which is never on in a program that anybody runs, [`is`] is false at compile time and
//! nothing of a fault is left. With it, a fault is in force on the thread that planted it, and nowhere else.

use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($name:ident = $word:literal, $what:literal;)*) => {
        /// A mistake that somebody could make.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Fault {
            $(#[doc = $what] $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What the mistake is.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }
        }
    };
}

faults! {
    ReplyBeforeDurable = "reply-before-durable", "A reply leaves when its record is with the committer.";
    TrustPageCache = "trust-page-cache", "A start does not write again what it found and nobody had proven durable.";
    GiveUpAfterSend = "give-up-after-send", "A segment is offered before the record that gives it up is durable.";
    CancelByTimeout = "cancel-by-time-out", "A transfer whose taker cannot be reached is taken back.";
    ForgetNumber = "forget-number", "A checkpoint forgets the highest numbers of transfers.";
    ForgetRefused = "forget-refused", "A checkpoint forgets which transfers were refused.";
    ForgetWindows = "forget-windows", "A start forgets what was answered.";
    AnswerForAnother = "answer-for-another", "A seller answers for a sequence of another from its own windows.";
    RecycleEarly = "recycle-early", "A journal segment is given up before its checkpoint and its acknowledgement.";
    TrustStaleBatch = "trust-stale-batch", "A batch that some earlier use of a recycled segment left is taken for the next.";
    CheckpointLive = "checkpoint-live", "Checkpoints and shipping see records before they are durable.";
    SellVoided = "sell-voided", "A voided PIN returns to sale.";
    AnswerAnotherTerminal = "answer-another-terminal", "A PIN goes to another terminal that waits for one.";
    ReallocateUnreachable = "reallocate-unreachable", "The hub gives out again what a node holds that it cannot reach.";
    ForgetLeft = "forget-left", "A node that has left answers as before when it is started again.";
    TrustOldHub = "trust-old-hub", "A hub goes on although a node knows more of it than it does itself.";
    TwoClaimants = "two-claimants", "A range is handed to two workers.";
}

/// Whether a fault is in force here.
#[cfg(not(feature = "planted"))]
#[inline(always)]
#[must_use]
pub const fn is(_: Fault) -> bool {
    false
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether a fault is in force here.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Has a fault in force on this thread from now on, or none.
///
/// # Panics
/// When a fault is asked for and this program was built without the feature `planted`.
pub fn plant(fault: Option<Fault>) {
    #[cfg(feature = "planted")]
    PLANTED.set(fault);
    #[cfg(not(feature = "planted"))]
    assert!(fault.is_none(), "faults need the feature `planted`");
}

/// Whether faults can be planted in this program.
#[must_use]
pub const fn is_possible() -> bool {
    cfg!(feature = "planted")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|fault| fault.word() == word);
        found.ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|fault| fault.word()).collect();
            format!("there is no fault {word}; there are {}", words.join(", "))
        })
    }
}
