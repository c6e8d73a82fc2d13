//! Load generator for Pinwheel.

use clap::Parser as _;
use loadgen::options::{Command, Options, RunOptions};
use loadgen::{demo, run, summary};
use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    if demo::is_the_network() {
        return engine::cli::main();
    }
    let conducted = match Options::parse().command {
        Command::Run(options) => conduct(&options),
        Command::Demo(options) => demo::demo(&options).map_err(Into::into),
    };
    match conducted {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

fn conduct(options: &RunOptions) -> Result<u8, Box<dyn Error>> {
    let outcome = run::run(options, &mut io::stderr())?;
    let text = if options.json { summary::json(&outcome) } else { summary::text(&outcome) };
    // The verdict is the exit code too.
    let _ = writeln!(io::stdout(), "{text}");
    Ok(outcome.verdict.exit_code())
}
