//! The table of statements that a broker satisfies or violates, with counts for each chapter.

#![expect(clippy::print_stdout, reason = "the user requested the table")]
#![expect(clippy::disallowed_types, reason = "cases run on several threads and report to one table")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use libtest_mimic::Failed;

use crate::case::Case;

/// The result of a statement: the worst of its cases.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Verdict {
    /// Needs our settings.
    NotTested,
    Passed,
    Failed,
}

/// Version, chapter, and the numbers of a statement, so that the table is in the order of the standard.
type Key = (&'static str, Vec<u16>, String);

/// The results of all cases, which share this value.
#[derive(Clone, Default)]
pub(crate) struct Results(Arc<Mutex<BTreeMap<Key, Verdict>>>);

impl Results {
    /// Runs a case and records its result.
    ///
    /// # Errors
    /// The failure of the case.
    pub(crate) fn note(&self, case: &Case, run: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
        let result = run();
        self.put(case, if result.is_ok() { Verdict::Passed } else { Verdict::Failed });
        result
    }

    /// Records that the case needs settings that only our broker has.
    pub(crate) fn leave_out(&self, case: &Case) {
        self.put(case, Verdict::NotTested);
    }

    fn put(&self, case: &Case, verdict: Verdict) {
        let id = case.statement();
        let numbers = id[5..].split(['.', '-']).filter_map(|number| number.parse().ok()).collect();
        let version = if case.version.is_v5() { "5.0" } else { "3.1.1" };
        let mut verdicts = self.0.lock().expect("no case panics while it reports");
        let slot = verdicts.entry((version, numbers, id)).or_insert(verdict);
        *slot = verdict.max(*slot);
    }

    /// Prints every tested statement, then the counts.
    pub(crate) fn print(&self) {
        let verdicts = self.0.lock().expect("no case panics while it reports");
        let mut counts: BTreeMap<(&str, u16), [u32; 3]> = BTreeMap::new();
        println!("\n| version | statement | |\n|---|---|---|");
        for ((version, numbers, id), verdict) in verdicts.iter() {
            let word = match verdict {
                Verdict::NotTested => "not tested: needs our settings",
                Verdict::Passed => "passed",
                Verdict::Failed => "**failed**",
            };
            println!("| {version} | {id} | {word} |");
            counts.entry((*version, numbers[0])).or_default()[*verdict as usize] += 1;
        }
        println!("\n| version | chapter | passed | failed | not tested |\n|---|---|---|---|---|");
        for ((version, chapter), [not_tested, passed, failed]) in counts {
            println!("| {version} | {chapter} | {passed} | {failed} | {not_tested} |");
        }
    }
}
