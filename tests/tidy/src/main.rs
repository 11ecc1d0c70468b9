//! Prints the figures of the house beside their limits; its tests hold the sources to what neither compiler nor clippy checks.
//! Reads sources, documents and manifests; runs nothing of them.

mod figure;
mod house;
mod limits;
mod names;
mod prose;
#[cfg(test)]
mod rules;
mod sources;

use std::io::{self, Write as _};
use std::process::ExitCode;

use figure::{Figure, Kind};
use limits::limit_of;

const USAGE: &str =
    "usage: tidy [--list] [WORD]: the figures whose name contains WORD, with --list what each counts";

fn main() -> ExitCode {
    let mut with_details = false;
    let mut word = String::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--list" => with_details = true,
            wanted if !wanted.starts_with('-') => wanted.clone_into(&mut word),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let figures = figures();
    let shown: Vec<&Figure> = figures.iter().filter(|figure| figure.name.contains(&word)).collect();
    let holds = shown.iter().all(|figure| limit_of(figure).holds(figure.value));
    if show(&shown, with_details).is_ok() && holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every figure of the repository.
fn figures() -> Vec<Figure> {
    let mut figures = house::figures();
    figures.extend(names::figures());
    figures.extend(prose::figures());
    figures
}

fn show(figures: &[&Figure], with_details: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<52} {:>7} {:>9} {:>9}", "figure", "today", "limit", "target")?;
    for figure in figures {
        let limit = limit_of(figure);
        let sign = if limit.kind == Kind::AtMost { "<=" } else { ">=" };
        let verdict = match (limit.is_reached(figure.value), limit.holds(figure.value)) {
            (true, _) => "reached",
            (false, true) => "",
            (false, false) => "PAST ITS LIMIT",
        };
        writeln!(
            out,
            "{:<52} {:>7} {sign}{:>7} {sign}{:>7} {verdict}",
            figure.name, figure.value, limit.bound, limit.target
        )?;
        if with_details {
            for line in &figure.details {
                writeln!(out, "    {line}")?;
            }
        }
    }
    Ok(())
}
