//! Loads: how much of something happens in a minute, on average over the last one, five and fifteen minutes.
//! Knows no clock and not what is counted.

use std::time::Duration;

/// What averages are made over, by the names that mosquitto's users know.
const WINDOWS: [(&str, Duration); 3] =
    [("1min", Duration::from_mins(1)), ("5min", Duration::from_mins(5)), ("15min", Duration::from_mins(15))];

/// Moving averages of one total that only grows. An older minute weighs less: its weight falls to 1/e within the window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadAverage {
    total: u64,
    /// Per minute, by window.
    averages: [f64; WINDOWS.len()],
}

impl LoadAverage {
    /// Takes in that the total is `total` now, `elapsed` after the last time.
    pub(crate) fn update(&mut self, total: u64, elapsed: Duration) {
        // A sum over shards that are read one after the other may be behind for a moment.
        let happened = total.saturating_sub(self.total);
        if elapsed.is_zero() {
            // No time, no rate: it counts the next time.
            return;
        }
        self.total += happened;
        #[expect(clippy::cast_precision_loss, reason = "what is shown has two places behind the point")]
        let rate = happened as f64 * 60.0 / elapsed.as_secs_f64();
        for (average, (_, window)) in self.averages.iter_mut().zip(WINDOWS) {
            let kept = (-elapsed.as_secs_f64() / window.as_secs_f64()).exp();
            *average = rate + kept * (*average - rate);
        }
    }

    /// The name of each window, and the average over it with two places behind the point.
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
        // 60 in ten seconds are 360 in a minute; of that, 1 - exp(-10 s / window).
        load.update(60, TEN_S);
        check(&load, ["55.27", "11.80", "3.98"]);
        // And then nothing for a minute: exp(-60 s / window) of it is left, however often one looks.
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
        // The total before the first look counts as if it had happened since the start.
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
