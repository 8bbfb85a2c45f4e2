use std::time::Duration;

use super::QueueConfig;

fn variables(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

#[test]
fn the_sdks_variables_set_the_queue_and_empty_ones_are_unset() {
    let config = QueueConfig::from_variables(variables(&[
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", " 100 "),
        ("OTEL_BSP_SCHEDULE_DELAY", "250"),
        ("OTEL_BSP_MAX_CONCURRENT_EXPORTS", ""),
    ]))
    .unwrap();
    let expected =
        QueueConfig { max_spans: 1000, max_batch_spans: 100, schedule_delay: Duration::from_millis(250), ..QueueConfig::default() };
    assert_eq!(config, expected);
}

#[test]
fn all_faults_come_at_once() {
    let error = QueueConfig::from_variables(variables(&[
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7"),
        ("OTEL_BSP_MAX_CONCURRENT_EXPORTS", "1000"),
    ]))
    .unwrap_err();
    let text = error.to_string();
    for part in ["max_spans must be greater than zero", "max_batch_spans must be at most", "max_in_flight"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_small_queue_alone_makes_small_batches() {
    let config = QueueConfig::from_variables(variables(&[("OTEL_BSP_MAX_QUEUE_SIZE", "256")])).unwrap();
    assert_eq!((config.max_spans, config.max_batch_spans), (256, 256));
}

#[test]
fn c_53_a_delay_without_end_is_a_fault() {
    let faults = |schedule_delay| QueueConfig { schedule_delay, ..QueueConfig::default() }.faults().len();
    assert_eq!((faults(Duration::from_secs(366 * 86_400)), faults(Duration::MAX)), (0, 1));
}

#[test]
fn c_16_what_is_not_a_number_counts_as_unset() {
    let config = QueueConfig::from_variables(variables(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_CONCURRENT_EXPORTS", "2"),
    ]))
    .unwrap();
    assert_eq!(config, QueueConfig { max_in_flight: 2, ..QueueConfig::default() });
}
