//! The order of services: by priority, and within one by chance, so that each gets its share (RFC 2782, "Usage rules").

use hickory_resolver::proto::rr::rdata::SRV;

use crate::dial::Dice;

/// How much more a weight of 1 counts than one of 0, which is to have a very small chance beside others.
const TRACE: u64 = 1024;

/// All of them in the order in which they are to be tried: the lowest priority first; within it the next is drawn from
/// those that are left, each with a chance in proportion to its weight.
pub(super) fn in_order(mut services: Vec<SRV>, dice: &Dice) -> Vec<SRV> {
    let mut order = Vec::with_capacity(services.len());
    while let Some(next) = draw(&services, dice) {
        order.push(services.swap_remove(next));
    }
    order
}

/// The place of the next one; `None` if none is left.
fn draw(services: &[SRV], dice: &Dice) -> Option<usize> {
    let first = services.iter().map(|service| service.priority).min()?;
    let mut total = 0;
    let mut ends = Vec::new();
    for (place, service) in services.iter().enumerate().filter(|(_, service)| service.priority == first) {
        total += share(service);
        ends.push((total, place));
    }
    let drawn = dice.below(total);
    ends.into_iter().find(|(end, _)| drawn < *end).map(|(_, place)| place)
}

fn share(service: &SRV) -> u64 {
    u64::from(service.weight) * TRACE + 1
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    fn service(priority: u16, weight: u16, port: u16) -> SRV {
        SRV::new(priority, weight, port, Name::root())
    }

    /// How often each service came first, by its port, of 10,000 times.
    fn firsts(services: &[SRV]) -> Vec<u32> {
        let dice = Dice::seeded(7);
        let mut firsts = vec![0; services.len()];
        for _ in 0..10_000 {
            let order = in_order(services.to_vec(), &dice);
            firsts[usize::from(order[0].port)] += 1;
        }
        firsts
    }

    #[test]
    fn each_comes_first_as_often_as_its_weight_says() {
        let firsts = firsts(&[service(1, 60, 0), service(1, 30, 1), service(1, 10, 2), service(2, 60_000, 3)]);
        assert!((5_800..=6_200).contains(&firsts[0]), "{firsts:?}");
        assert!((2_800..=3_200).contains(&firsts[1]), "{firsts:?}");
        assert!((850..=1_150).contains(&firsts[2]), "{firsts:?}");
        assert_eq!(firsts[3], 0);
    }

    #[test]
    fn a_weight_of_0_has_a_very_small_chance_beside_others_and_an_equal_one_among_its_like() {
        let beside = firsts(&[service(1, 1, 0), service(1, 0, 1)]);
        assert!((1..100).contains(&beside[1]), "{beside:?}");
        let among = firsts(&[service(1, 0, 0), service(1, 0, 1), service(1, 0, 2), service(1, 0, 3)]);
        assert!(among.iter().all(|times| (2_300..=2_700).contains(times)), "{among:?}");
    }

    proptest! {
        #[test]
        fn none_is_lost_and_no_priority_comes_before_a_lower_one(
            services in proptest::collection::vec((0..4u16, prop_oneof![Just(0), Just(u16::MAX), any::<u16>()], any::<u16>()), 0..40),
            seed: u64,
        ) {
            let services: Vec<SRV> = services.into_iter().map(|(p, w, port)| service(p, w, port)).collect();
            let order = in_order(services.clone(), &Dice::seeded(seed));
            prop_assert!(order.is_sorted_by_key(|service| service.priority));
            let key = |service: &SRV| (service.priority, service.weight, service.port);
            let sorted = |services: &[SRV]| { let mut keys: Vec<_> = services.iter().map(key).collect(); keys.sort(); keys };
            prop_assert_eq!(sorted(&order), sorted(&services));
        }
    }
}
