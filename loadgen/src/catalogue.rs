//! What can be asked for.

use wire::message::CatalogueEntry;

/// What a vend asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Variety {
    /// The product.
    pub product: u32,
    /// The denomination, in minor units of the product's currency.
    pub face_value: u64,
}

impl Variety {
    /// The variety of a catalogue entry.
    #[must_use]
    pub fn of(entry: &CatalogueEntry) -> Self {
        Self { product: entry.product, face_value: entry.face_value }
    }
}

impl std::fmt::Display for Variety {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "product {} face value {}", self.product, self.face_value)
    }
}

/// What a terminal asks for at a sequence: a repeat after a restart must ask for the same.
///
/// # Panics
/// If there are no varieties.
#[must_use]
pub(crate) fn choose(varieties: usize, terminal: u64, sequence: u64) -> usize {
    (terminal.wrapping_add(sequence) % varieties as u64) as usize
}
