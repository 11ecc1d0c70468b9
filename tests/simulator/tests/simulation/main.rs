//! The simulated broker: random runs judged by the oracle, and named races, each with a schedule made by hand.
//! `SEED=0x… cargo test --test simulation` repeats one run and prints its digest.

mod crashes;
mod groups;
mod lanes;
mod retained;
mod rules;
mod seeds;
mod stage;
mod subscriptions;
mod take_over;
mod verdicts;
