use super::super::table::Kind;
use super::super::testing::Pair;
use super::super::wire::Status;
use super::*;

/// Answers as Linux does: the sequence number is incremented in place.
fn beat(pair: &mut Pair, applications: Applications) {
    let message: Message = pair.message();
    pair.send_back_with(Status::SUCCESS, |body| {
        body[..8].copy_from_slice(&(message.sequence + 1).to_le_bytes());
        body[8..12].copy_from_slice(&applications.0.to_le_bytes());
    });
}

fn health(pair: &Pair) -> Health {
    let Details::Heartbeat(facts) = pair.status().details else { panic!("the details are another service's") };
    facts.health
}

#[test]
fn a_guest_that_answers_is_ok_every_two_seconds() {
    let mut pair = Pair::connected(Kind::Heartbeat);
    assert_eq!(health(&pair), Health::NoContact);
    for round in 0..3 {
        beat(&mut pair, Applications::UNKNOWN);
        let expected = if round == 0 { vec![Event::Health(Health::Ok(Applications::UNKNOWN))] } else { vec![] };
        assert_eq!(pair.service.take_events(), expected, "only changes are events");
        assert_eq!(pair.take(), None);
        assert_eq!(pair.service.deadline(true), Some(pair.now.running + PERIOD));
        pair.wait(PERIOD);
    }
    assert_eq!(health(&pair).to_string(), "OkApplicationsUnknown");
    beat(&mut pair, Applications::CRITICAL);
    assert_eq!(health(&pair).to_string(), "OkApplicationsCritical");
}

#[test]
fn the_health_of_a_guest_that_hangs_is_lost_contact_until_it_answers() {
    let mut pair = Pair::connected(Kind::Heartbeat);
    beat(&mut pair, Applications::HEALTHY);
    pair.wait(PERIOD);
    let message: Message = pair.message();
    pair.service.take_events();
    pair.wait(LOST_AFTER - Duration::from_millis(1));
    assert_eq!(health(&pair), Health::Ok(Applications::HEALTHY));
    pair.wait(Duration::from_millis(1));
    assert_eq!(pair.service.take_events(), [Event::Health(Health::LostContact)]);
    pair.wait(1000 * PERIOD);
    assert_eq!(pair.take(), None, "the guest's ring does not fill");
    assert_eq!(pair.service.deadline(true), None, "nothing is to be done until it answers");
    pair.send_back_with(Status::SUCCESS, |body| body[..8].copy_from_slice(&(message.sequence + 1).to_le_bytes()));
    assert_eq!(pair.service.take_events(), [Event::Health(Health::Ok(Applications::UNKNOWN))]);
}

#[test]
fn wrong_answers_are_not_heartbeats() {
    let mut pair = Pair::connected(Kind::Heartbeat);
    for _ in 0..20 {
        if pair.take().is_some() {
            pair.send_back(Status::SUCCESS);
        }
        pair.wait(PERIOD);
    }
    assert_eq!(health(&pair), Health::LostContact);
    assert_eq!(pair.service.take_events(), [Event::Health(Health::LostContact)]);
}

#[test]
fn a_guest_that_closes_the_channel_has_no_contact() {
    let mut pair = Pair::connected(Kind::Heartbeat);
    beat(&mut pair, Applications::UNKNOWN);
    pair.service.take_events();
    pair.service.closed();
    assert_eq!(pair.service.take_events(), [Event::Health(Health::NoContact), Event::Disconnected]);
    assert_eq!(Health::NoContact.to_string(), "NoContact");
    assert_eq!(Health::LostContact.to_string(), "LostCommunication");
}
