//! A figure beside the floor that it is held against.

/// What a figure has to be.
#[derive(Clone, Copy)]
pub struct Floor {
    bound: f64,
    is_most: bool,
    unit: &'static str,
}

impl Floor {
    /// It must not be more.
    #[must_use]
    pub const fn at_most(bound: f64, unit: &'static str) -> Self {
        Self { bound, is_most: true, unit }
    }

    /// It must not be less.
    #[must_use]
    pub const fn at_least(bound: f64, unit: &'static str) -> Self {
        Self { bound, is_most: false, unit }
    }

    /// Prints the figure, the floor, their ratio, and whether the floor is met.
    pub fn print(self, name: &str, figure: f64) {
        let Self { bound, is_most, unit } = self;
        let ratio = figure / bound;
        let (side, is_met) = if is_most { ("at most", ratio <= 1.0) } else { ("at least", ratio >= 1.0) };
        let (figure, bound) = (shown(figure), shown(bound));
        let verdict = if is_met { "met" } else { "NOT MET" };
        println!("{name:<52}{figure:>14} {unit}; floor: {side} {bound}; ratio {ratio:.2}: {verdict}");
    }
}

fn shown(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.2}") } else { format!("{figure:.0}") }
}
