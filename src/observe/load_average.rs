//! Load averages: the rate of a counter for each minute, averaged over the last one, five and fifteen minutes. The
//! caller supplies the elapsed time.

use std::time::Duration;

/// The windows of the averages, with the names that mosquitto uses.
const WINDOWS: [(&str, Duration); 3] =
    [("1min", Duration::from_mins(1)), ("5min", Duration::from_mins(5)), ("15min", Duration::from_mins(15))];

/// Moving averages of one counter. The weight of a minute falls to 1/e within the window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadAverage {
    total: u64,
    /// Events for each minute, by window.
    averages: [f64; WINDOWS.len()],
}

impl LoadAverage {
    /// Updates the averages: the counter is `total` now, `elapsed` after the last update.
    pub(crate) fn update(&mut self, total: u64, elapsed: Duration) {
        // The shards are read one after the other, so a sum can be lower than the last one for a moment.
        let happened = total.saturating_sub(self.total);
        if elapsed.is_zero() {
            // No time has passed, so there is no rate. The events count in the next update.
            return;
        }
        self.total += happened;
        #[expect(clippy::cast_precision_loss, reason = "the output has two decimal places")]
        let rate = happened as f64 * 60.0 / elapsed.as_secs_f64();
        for (average, (_, window)) in self.averages.iter_mut().zip(WINDOWS) {
            let kept = (-elapsed.as_secs_f64() / window.as_secs_f64()).exp();
            *average = rate + kept * (*average - rate);
        }
    }

    /// The name of each window and its average with two decimal places.
    pub(crate) fn formatted(&self) -> impl Iterator<Item = (&'static str, String)> {
        WINDOWS.iter().zip(self.averages).map(|((name, _), average)| (*name, format!("{average:.2}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_S: Duration = Duration::from_secs(10);

    fn check(load: &LoadAverage, expected: [&str; 3]) {
        let formatted: Vec<_> = load.formatted().collect();
        let expected: Vec<_> =
            ["1min", "5min", "15min"].into_iter().zip(expected.map(str::to_owned)).collect();
        assert_eq!(formatted, expected);
    }

    #[test]
    fn a_burst_weighs_by_its_window_and_fades_by_it() {
        let mut load = LoadAverage::default();
        check(&load, ["0.00", "0.00", "0.00"]);
        // 60 events in ten seconds are 360 in a minute, weighted with 1 - exp(-10 s / window).
        load.update(60, TEN_S);
        check(&load, ["55.27", "11.80", "3.98"]);
        // After an idle minute exp(-60 s / window) of the average remains, for any number of updates.
        let mut often = load;
        load.update(60, 6 * TEN_S);
        check(&load, ["20.33", "9.66", "3.72"]);
        for _ in 0..6 {
            often.update(60, TEN_S);
        }
        check(&often, ["20.33", "9.66", "3.72"]);
    }

    #[test]
    fn a_steady_rate_becomes_the_average() {
        let mut load = LoadAverage::default();
        for number in 1..=2_000 {
            load.update(7 * number, TEN_S);
        }
        check(&load, ["42.00", "42.00", "42.00"]);
        // The total before the first update counts as if it had grown since the start.
        let mut late = LoadAverage::default();
        late.update(1_000, Duration::from_hours(24));
        check(&late, ["0.69", "0.69", "0.69"]);
    }

    #[test]
    fn a_stale_total_and_an_update_without_time_count_once() {
        let mut load = LoadAverage::default();
        load.update(60, Duration::ZERO);
        check(&load, ["0.00", "0.00", "0.00"]);
        load.update(60, TEN_S);
        let mut steady = load;
        load.update(59, TEN_S);
        load.update(60, TEN_S);
        steady.update(60, TEN_S);
        steady.update(60, TEN_S);
        assert_eq!(load.formatted().collect::<Vec<_>>(), steady.formatted().collect::<Vec<_>>());
    }
}
