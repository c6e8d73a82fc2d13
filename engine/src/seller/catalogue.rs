//! The registry's varieties as pages for a terminal.

use crate::ids::VarietyId;
use crate::registry::{Registry, Variety};
use wire::message::{CATALOGUE_ENTRIES_MAX, CatalogueEntry, CataloguePage, Text};

/// The page that begins with the variety at index `from`.
pub(super) fn page(registry: &Registry, from: u16, has_stock: impl Fn(VarietyId) -> bool) -> CataloguePage {
    let varieties = registry.varieties();
    let mut page = CataloguePage {
        version: catalogue_version(registry),
        total: u16::try_from(varieties.len()).unwrap_or(u16::MAX),
        from,
        count: 0,
        entries: [CatalogueEntry::EMPTY; CATALOGUE_ENTRIES_MAX],
    };
    for (entry, variety) in page.entries.iter_mut().zip(varieties.skip(usize::from(from))) {
        *entry = entry_of(variety, has_stock(variety.id));
        page.count += 1;
    }
    page
}

/// Changes whenever the registry does, as a terminal sees it.
pub(super) fn catalogue_version(registry: &Registry) -> u32 {
    (registry.version() & u64::from(u32::MAX)) as u32
}

fn entry_of(variety: &Variety, available: bool) -> CatalogueEntry {
    CatalogueEntry {
        product: variety.product,
        face_value: variety.face_value,
        currency: variety.currency,
        currency_digits: variety.currency_digits,
        available,
        charset: variety.charset,
        name: Text::new(&variety.name).unwrap_or(Text::EMPTY),
        receipt: Text::new(&variety.receipt).unwrap_or(Text::EMPTY),
    }
}
