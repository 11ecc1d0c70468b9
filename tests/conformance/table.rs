//! The table of statements: which a broker keeps, which it does not, with counts for each chapter.
//! Knows no broker.

#![expect(clippy::print_stdout, reason = "the table is what was asked for")]
#![expect(clippy::disallowed_types, reason = "cases run on several threads and report to one table")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use libtest_mimic::Failed;

use crate::case::Case;

/// What was seen of a statement. The worst of its cases counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Verdict {
    /// Needs settings of ours.
    NotAsked,
    Passed,
    Failed,
}

/// Version, chapter, and the numbers of a statement, so that the table is in the order of the standard.
type Key = (&'static str, Vec<u16>, String);

/// What all cases found; shared by them.
#[derive(Clone, Default)]
pub(crate) struct Results(Arc<Mutex<BTreeMap<Key, Verdict>>>);

impl Results {
    /// Runs a case and takes its result down.
    ///
    /// # Errors
    /// What the case found.
    pub(crate) fn note(&self, case: &Case, run: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
        let result = run();
        self.put(case, if result.is_ok() { Verdict::Passed } else { Verdict::Failed });
        result
    }

    /// The case needs settings that only ours has.
    pub(crate) fn leave_out(&self, case: &Case) {
        self.put(case, Verdict::NotAsked);
    }

    fn put(&self, case: &Case, verdict: Verdict) {
        let id = case.statement();
        let numbers = id[5..].split(['.', '-']).filter_map(|number| number.parse().ok()).collect();
        let version = if case.version.is_v5() { "5.0" } else { "3.1.1" };
        let mut verdicts = self.0.lock().expect("no case panics while it reports");
        let slot = verdicts.entry((version, numbers, id)).or_insert(verdict);
        *slot = verdict.max(*slot);
    }

    /// Prints every statement that was asked, then the counts.
    pub(crate) fn print(&self) {
        let verdicts = self.0.lock().expect("no case panics while it reports");
        let mut counts: BTreeMap<(&str, u16), [u32; 3]> = BTreeMap::new();
        println!("\n| version | statement | |\n|---|---|---|");
        for ((version, numbers, id), verdict) in verdicts.iter() {
            let word = match verdict {
                Verdict::NotAsked => "not asked: needs settings of ours",
                Verdict::Passed => "passed",
                Verdict::Failed => "**failed**",
            };
            println!("| {version} | {id} | {word} |");
            counts.entry((*version, numbers[0])).or_default()[*verdict as usize] += 1;
        }
        println!("\n| version | chapter | passed | failed | not asked |\n|---|---|---|---|---|");
        for ((version, chapter), [not_asked, passed, failed]) in counts {
            println!("| {version} | {chapter} | {passed} | {failed} | {not_asked} |");
        }
    }
}
