//! Load generator for Pinwheel.

use clap::Parser as _;
use loadgen::options::{Command, Options, RunOptions};
use loadgen::outcome::Verdict;
use loadgen::{run, summary};
use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Command::Run(options) = Options::parse().command;
    match conduct(&options) {
        Ok(verdict) => ExitCode::from(verdict.exit_code()),
        Err(error) => {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

fn conduct(options: &RunOptions) -> Result<Verdict, run::RunError> {
    let outcome = run::run(options, &mut io::stderr())?;
    let text = if options.json { summary::json(&outcome) } else { summary::text(&outcome) };
    // The verdict is the exit code too.
    let _ = writeln!(io::stdout(), "{text}");
    Ok(outcome.verdict)
}
