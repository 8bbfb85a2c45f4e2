use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<RabbitMqConfig, ConfigError> {
    RabbitMqConfig::from_variables(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn names_and_defaults_are_scouters() {
    let config = read(&[]).unwrap();
    assert_eq!((config.address().as_str(), config.queue.as_str()), ("amqp://localhost:5672", "scouter_monitoring"));
    let config = read(&[("RABBITMQ_HOST", "127.0.0.1"), ("RABBITMQ_PORT", "1"), ("RABBITMQ_QUEUE", "other")]).unwrap();
    assert_eq!((config.address().as_str(), config.queue.as_str()), ("amqp://127.0.0.1:1", "other"));
}

#[test]
fn an_address_wins_over_what_it_holds() {
    let address = ("RABBITMQ_ADDR", "amqps://ada:hi%40den@rabbit.example/blue%2Fgreen");
    let config = read(&[("RABBITMQ_HOST", "localhost"), ("RABBITMQ_USERNAME", "grace"), address]).unwrap();
    assert_eq!(
        (config.address().as_str(), config.username.as_str(), config.password.reveal()),
        ("amqps://rabbit.example:5671", "ada", "hi@den")
    );
    assert_eq!(config.virtual_host, "blue/green");
    let plain = read(&[("RABBITMQ_USERNAME", "grace"), ("RABBITMQ_ADDR", "amqp://127.0.0.1:7")]).unwrap();
    assert_eq!((plain.address().as_str(), plain.username.as_str(), plain.virtual_host.as_str()), ("amqp://127.0.0.1:7", "grace", "/"));
}

#[test]
fn every_fault_comes_at_once_and_none_shows_the_password() {
    let long = "q".repeat(201);
    let error = read(&[("RABBITMQ_PORT", "many"), ("RABBITMQ_QUEUE", &long), ("RABBITMQ_ADDR", "http://ada:hidden@x")]).unwrap_err();
    assert_eq!(error.faults.len(), 3, "{error}");
    assert!(!error.to_string().contains("hidden"), "{error}");
}

#[test]
fn a_password_does_not_cross_plaintext_unless_that_is_said() {
    let open = ("RABBITMQ_ADDR", "amqp://ada:hidden@rabbit.example");
    assert!(read(&[open]).unwrap_err().to_string().contains("plaintext"));
    let config = read(&[open, ("RABBITMQ_INSECURE", "1")]).unwrap();
    assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
}

#[test]
fn no_part_of_a_password_is_shown_however_it_is_written() {
    for address in
        ["amqp://ada:qqq/zzz@localhost", "amqp://ada:12/zzz@localhost", "amqp://ada:qqq@zzz@localhost", "amqp://ada:qqq?zzz@localhost"]
    {
        let shown = match read(&[("RABBITMQ_ADDR", address)]) {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.to_string(),
        };
        assert!(!shown.contains("qqq") && !shown.contains("zzz"), "{address}: {shown}");
    }
}
