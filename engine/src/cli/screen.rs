//! What people see.

use crate::admin::Reply;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdout};

/// Says something on standard output. Who closed it does not want to hear it.
pub(super) fn say(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Asks on standard error whether to go on; yes only if the answer on standard input says so.
pub(super) fn confirmed(question: &str) -> bool {
    remark(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// A time in milliseconds of Unix time as people write it, in UTC; nothing for 0.
pub(super) fn instant(at_ms: u64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
    (at_ms > 0).then(|| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// Says a value as one line of JSON.
pub(super) fn say_json(value: &impl serde::Serialize) {
    let mut line = serde_json::to_string(value).expect("what is said has a JSON form");
    line.push('\n');
    say(&line);
}

/// Says on standard error what went wrong.
pub(super) fn complain(reason: &str) {
    let _ = writeln!(stderr(), "pinwheel: {reason}");
}

/// Says something on standard error.
pub(super) fn remark(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

/// Columns, each as wide as its widest cell. A heading that begins with `>` makes its column stand to the right.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let names: Vec<&str> = headings.iter().map(|heading| heading.trim_start_matches('>')).collect();
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(name.len())
        })
        .collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::from(" ");
        for (column, cell) in cells.enumerate() {
            let width = widths[column];
            let cell = if headings[column].starts_with('>') {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            line.push(' ');
            line.push_str(&cell);
            line.push(' ');
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&mut names.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A number with its thousands apart.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A day as year × 10,000 + month × 100 + day, as people write it.
pub(super) fn date(day: u32) -> String {
    format!("{:04}-{:02}-{:02}", day / 10_000, day / 100 % 100, day % 100)
}

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 100;

/// Shows how far a delivery is, if standard error is a terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    step: String,
}

impl Bar {
    pub(super) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::new(0);
        if quiet || !stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) =
            ProgressStyle::with_template("  {msg:<8} {wide_bar:.cyan/dim} {percent:>3} %  {eta}")
        {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self { bar, step: String::new() }
    }

    pub(super) fn hear(&mut self, reply: Reply) {
        if let Reply::Progress { step, done, total } = reply {
            if step != self.step {
                self.bar.reset();
                self.bar.set_message(step.clone());
                self.step = step;
            }
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_to_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "1,000".to_owned()], vec!["bcd".to_owned(), "7".to_owned()]];
        assert_eq!(table(&["x", ">n"], &rows), "  x        n\n  a    1,000\n  bcd      7\n");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(date(20_271_231), "2027-12-31");
    }
}
