use proptest::prelude::*;

use super::super::testing::{decode, disk, outcome};
use super::super::{CommandOutcome, Response, Status};
use super::*;

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Executes PERSISTENT RESERVE OUT, and returns its response.
fn out(unit: &mut LogicalUnit, nexus: u16, action: u8, kind: u8, key: u64, service_key: u64) -> Response {
    let mut list = [key.to_be_bytes(), service_key.to_be_bytes()].concat();
    list.extend_from_slice(&[0; 8]);
    match outcome(unit, nexus, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list) {
        CommandOutcome::Done(response) => response,
        CommandOutcome::Perform(job) => panic!("{job:?}"),
    }
}

fn register(unit: &mut LogicalUnit, nexus: u16, key: u64, new: u64) -> Status {
    out(unit, nexus, 0, 0, key, new).status
}

fn reserve(unit: &mut LogicalUnit, nexus: u16, kind: u8, key: u64) -> Status {
    out(unit, nexus, 1, kind, key, 0).status
}

fn read_in(unit: &mut LogicalUnit, action: u8) -> Vec<u8> {
    // Sent by a nexus without pending unit attentions.
    match outcome(unit, 9, &[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], &[]) {
        CommandOutcome::Done(Response { status: Status::Good, data, .. }) => data,
        other => panic!("{other:?}"),
    }
}

fn keys(unit: &mut LogicalUnit) -> Vec<u64> {
    read_in(unit, 0)[8..].chunks_exact(8).map(|key| u64::from_be_bytes(array(key, 0))).collect()
}

/// Returns whether the command of the nexus succeeds, and the unit attention that it gets first.
fn admitted(unit: &mut LogicalUnit, nexus: u16, cdb: &[u8]) -> Result<bool, Sense> {
    match outcome(unit, nexus, cdb, &[0; 512]) {
        CommandOutcome::Done(Response { status: Status::ReservationConflict, .. }) => Ok(false),
        CommandOutcome::Done(Response { status: Status::CheckCondition, sense, .. }) => {
            Err(decode(&sense.expect("sense")))
        }
        _ => Ok(true),
    }
}

#[test]
fn registering_requires_the_current_key_unless_it_is_ignored() {
    let mut unit = disk();
    assert_eq!(register(&mut unit, 0, 7, 1), Status::ReservationConflict);
    assert_eq!(register(&mut unit, 0, 0, 1), Status::Good);
    assert_eq!(register(&mut unit, 0, 0, 2), Status::ReservationConflict);
    assert_eq!(register(&mut unit, 0, 1, 2), Status::Good);
    assert_eq!(out(&mut unit, 0, 6, 0, 99, 3).status, Status::Good);
    assert_eq!(keys(&mut unit), [3]);
    assert_eq!(register(&mut unit, 0, 3, 0), Status::Good);
    assert!(keys(&mut unit).is_empty());
    // Four changes, not counting those that were refused.
    assert_eq!(read_in(&mut unit, 0)[..4], 4_u32.to_be_bytes());
}

#[test]
fn only_a_registrant_can_reserve_and_others_conflict() {
    let mut unit = disk();
    assert_eq!(reserve(&mut unit, 0, 3, 1), Status::ReservationConflict);
    register(&mut unit, 0, 0, 1);
    assert_eq!(reserve(&mut unit, 0, 3, 1), Status::Good);
    assert_eq!(reserve(&mut unit, 0, 3, 1), Status::Good);
    assert_eq!(reserve(&mut unit, 0, 1, 1), Status::ReservationConflict);
    assert_eq!(admitted(&mut unit, 0, &WRITE), Ok(true));
    for cdb in [&READ, &WRITE] {
        assert_eq!(admitted(&mut unit, 1, cdb), Ok(false));
    }
    for cdb in [&TEST_UNIT_READY[..], &[0x12, 0, 0, 0, 36, 0], &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]] {
        assert_eq!(admitted(&mut unit, 1, cdb), Ok(true));
    }
}

#[test]
fn each_type_of_reservation_restricts_the_right_initiators() {
    // Type, and whether a registrant and an unregistered nexus may read and write.
    for (kind, registrant, stranger) in [
        (1, [true, false], [true, false]),
        (3, [false, false], [false, false]),
        (5, [true, true], [true, false]),
        (6, [true, true], [false, false]),
        (7, [true, true], [true, false]),
        (8, [true, true], [false, false]),
    ] {
        let mut unit = disk();
        register(&mut unit, 0, 0, 1);
        register(&mut unit, 1, 0, 2);
        assert_eq!(reserve(&mut unit, 0, kind, 1), Status::Good);
        let mut may = |nexus| [&READ, &WRITE].map(|cdb| admitted(&mut unit, nexus, cdb) == Ok(true));
        assert_eq!((may(0), may(1), may(2)), ([true, true], registrant, stranger), "kind {kind}");
    }
}

#[test]
fn releasing_another_type_is_an_error_and_releasing_nothing_is_not() {
    let mut unit = disk();
    register(&mut unit, 0, 0, 1);
    register(&mut unit, 1, 0, 2);
    assert_eq!(out(&mut unit, 0, 2, 5, 1, 0).status, Status::Good);
    reserve(&mut unit, 0, 5, 1);
    let wrong = out(&mut unit, 0, 2, 6, 1, 0);
    assert_eq!(decode(&wrong.sense.expect("sense")), Sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
    assert_eq!(out(&mut unit, 1, 2, 5, 2, 0).status, Status::Good);
    assert_eq!(read_in(&mut unit, 1).len(), 24);
    assert_eq!(out(&mut unit, 0, 2, 5, 1, 0).status, Status::Good);
    assert_eq!(read_in(&mut unit, 1).len(), 8);
    assert_eq!(admitted(&mut unit, 1, &READ), Err(Sense::RESERVATIONS_RELEASED));
}

#[test]
fn clear_removes_all_registrations_and_notifies_the_others() {
    let mut unit = disk();
    register(&mut unit, 0, 0, 1);
    register(&mut unit, 1, 0, 2);
    reserve(&mut unit, 0, 1, 1);
    assert_eq!(out(&mut unit, 1, 3, 0, 2, 0).status, Status::Good);
    assert_eq!((keys(&mut unit), read_in(&mut unit, 1).len()), (vec![], 8));
    assert_eq!(admitted(&mut unit, 0, &READ), Err(Sense::RESERVATIONS_PREEMPTED));
}

#[test]
fn preempt_takes_the_reservation_from_its_holder() {
    let mut unit = disk();
    register(&mut unit, 0, 0, 1);
    register(&mut unit, 1, 0, 2);
    reserve(&mut unit, 0, 1, 1);
    assert_eq!(out(&mut unit, 1, 4, 3, 2, 1).status, Status::Good);
    assert_eq!(keys(&mut unit), [2]);
    let reservation = read_in(&mut unit, 1);
    assert_eq!((reservation[15], reservation[21]), (2, 3));
    assert_eq!(admitted(&mut unit, 0, &READ), Err(Sense::REGISTRATIONS_PREEMPTED));
    assert_eq!(admitted(&mut unit, 0, &READ), Ok(false));
    assert_eq!(out(&mut unit, 1, 4, 3, 2, 77).status, Status::ReservationConflict);
}

#[test]
fn preempt_with_key_0_takes_a_reservation_of_all_registrants() {
    let mut unit = disk();
    register(&mut unit, 0, 0, 1);
    register(&mut unit, 1, 0, 2);
    let no_reservation = out(&mut unit, 1, 4, 8, 2, 0);
    assert_eq!(decode(&no_reservation.sense.expect("sense")), Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    reserve(&mut unit, 0, 8, 1);
    assert_eq!(out(&mut unit, 1, 5, 1, 2, 0).status, Status::Good);
    assert_eq!(keys(&mut unit), [2]);
    assert_eq!(read_in(&mut unit, 1)[21], 1);
}

#[test]
fn a_reservation_of_all_registrants_ends_with_the_last_registration() {
    let mut unit = disk();
    register(&mut unit, 0, 0, 1);
    register(&mut unit, 1, 0, 2);
    reserve(&mut unit, 0, 7, 1);
    register(&mut unit, 0, 1, 0);
    assert_eq!(read_in(&mut unit, 1).len(), 24);
    register(&mut unit, 1, 2, 0);
    assert_eq!(read_in(&mut unit, 1).len(), 8);
}

#[test]
fn persistent_reservations_survive_a_reset_and_spc_2_reservations_do_not() {
    let mut unit = disk();
    register(&mut unit, 0, 0, 1);
    reserve(&mut unit, 0, 3, 1);
    unit.reset(Sense::BUS_RESET);
    assert_eq!(keys(&mut unit), [1]);
    let mut unit = disk();
    assert_eq!(admitted(&mut unit, 1, &[0x16, 0, 0, 0, 0, 0]), Ok(true));
    assert_eq!(admitted(&mut unit, 0, &TEST_UNIT_READY), Ok(false));
    assert_eq!(admitted(&mut unit, 0, &[0x17, 0, 0, 0, 0, 0]), Ok(false));
    assert_eq!(register(&mut unit, 1, 0, 9), Status::ReservationConflict);
    unit.reset(Sense::BUS_RESET);
    assert_eq!(admitted(&mut unit, 0, &TEST_UNIT_READY), Err(Sense::BUS_RESET));
    assert_eq!(admitted(&mut unit, 0, &TEST_UNIT_READY), Ok(true));
}

#[test]
fn parameter_lists_of_another_length_and_unsupported_features_are_refused() {
    let mut unit = disk();
    let sense = |unit: &mut LogicalUnit, cdb: &[u8], list: &[u8]| match outcome(unit, 0, cdb, list) {
        CommandOutcome::Done(Response { sense: Some(sense), .. }) => decode(&sense),
        other => panic!("{other:?}"),
    };
    let short = sense(&mut unit, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 23, 0], &[0; 24]);
    assert_eq!(short, Sense::PARAMETER_LIST_LENGTH_ERROR);
    for flag in [1, 8] {
        let mut list = [0; 24];
        list[20] = flag;
        let refused = sense(&mut unit, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list);
        assert_eq!(refused, Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    }
    register(&mut unit, 0, 0, 1);
    let bad_type = decode(&out(&mut unit, 0, 1, 2, 1, 0).sense.expect("sense"));
    assert_eq!(bad_type, Sense::INVALID_FIELD_IN_CDB);
}

#[test]
fn full_status_lists_every_registrant_and_the_holder() {
    let mut unit = disk();
    register(&mut unit, 0, 0, 1);
    register(&mut unit, 3, 0, 2);
    reserve(&mut unit, 3, 5, 2);
    let status = read_in(&mut unit, 3);
    assert_eq!((status.len(), status[7]), (8 + 96, 96));
    let (first, second) = status[8..].split_at(48);
    assert_eq!((first[7], first[12], first[27]), (1, 0, 0));
    assert_eq!((second[7], second[12], second[13], second[27]), (2, 1, 5, 3));
}

/// The model: the registrations with their keys, and the holder of the reservation. It decides what an initiator may do.
#[derive(Default)]
struct Model {
    keys: std::collections::BTreeMap<u16, u64>,
    held: Option<(u16, u8)>,
}

impl Model {
    fn all(kind: u8) -> bool {
        kind >= 7
    }

    fn holds(&self, nexus: u16) -> bool {
        self.held.is_some_and(|(holder, kind)| holder == nexus || Self::all(kind) && self.keys.contains_key(&nexus))
    }

    fn forget(&mut self, nexus: u16) {
        self.keys.remove(&nexus);
        if let Some((holder, kind)) = self.held
            && if Self::all(kind) { self.keys.is_empty() } else { holder == nexus }
        {
            self.held = None;
        }
    }

    fn apply(&mut self, nexus: u16, action: u8, kind: u8, key: u64, service_key: u64) -> bool {
        let own = self.keys.get(&nexus).copied();
        match action {
            0 | 6 => {
                if action == 0 && key != own.unwrap_or(0) {
                    return false;
                }
                if service_key == 0 {
                    self.forget(nexus);
                } else {
                    self.keys.insert(nexus, service_key);
                }
            }
            _ if own != Some(key) => return false,
            1 if self.held.is_none() => self.held = Some((nexus, kind)),
            1 => return self.holds(nexus) && self.held.is_some_and(|(_, held)| held == kind),
            2 if !self.holds(nexus) => {}
            2 if self.held.is_some_and(|(_, held)| held != kind) => return false,
            2 => self.held = None,
            3 => *self = Self::default(),
            _ => return self.preempt(nexus, kind, service_key),
        }
        true
    }

    fn preempt(&mut self, nexus: u16, kind: u8, victim: u64) -> bool {
        let takes = match self.held {
            Some((_, held)) if Self::all(held) => victim == 0,
            Some((holder, _)) => self.keys.get(&holder) == Some(&victim),
            None => false,
        };
        if !takes && (victim == 0 || !self.keys.values().any(|key| *key == victim)) {
            return false;
        }
        self.keys.retain(|other, key| *other == nexus || victim != 0 && *key != victim);
        if takes {
            self.held = Some((nexus, kind));
        }
        true
    }

    fn may(&self, nexus: u16, write: bool) -> bool {
        match self.held {
            None => true,
            Some((_, kind)) if !write && matches!(kind, 1 | 5 | 7) => true,
            Some((_, kind)) => self.holds(nexus) || kind >= 5 && self.keys.contains_key(&nexus),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn reservations_behave_like_a_simple_model(
        commands in prop::collection::vec(
            (0_u16..3, 0_u8..7, prop::sample::select(vec![1_u8, 3, 5, 6, 7, 8]), 0_u64..3, 0_u64..3), 1..40),
    ) {
        let mut unit = disk();
        let mut model = Model::default();
        for (nexus, action, kind, key, service_key) in commands {
            while unit.take_attention(nexus_of(nexus)).is_some() {}
            let good = out(&mut unit, nexus, action, kind, key, service_key).status == Status::Good;
            prop_assert_eq!(good, model.apply(nexus, action, kind, key, service_key));
            for nexus in 0..4 {
                while unit.take_attention(nexus_of(nexus)).is_some() {}
                prop_assert_eq!(admitted(&mut unit, nexus, &READ), Ok(model.may(nexus, false)));
                prop_assert_eq!(admitted(&mut unit, nexus, &WRITE), Ok(model.may(nexus, true)));
            }
            let mut keys = keys(&mut unit);
            keys.sort_unstable();
            let mut expected: Vec<u64> = model.keys.values().copied().collect();
            expected.sort_unstable();
            prop_assert_eq!(keys, expected);
        }
    }
}

fn nexus_of(number: u16) -> Nexus {
    Nexus(number)
}
