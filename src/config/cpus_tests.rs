use super::*;
use crate::config::text;

fn cpus(text: &str) -> Cpus {
    text::parse(text).unwrap()
}

fn topology(sockets: u32, cores: u32, threads: u32) -> Result<Topology, CpusError> {
    Ok(Topology { sockets, cores, threads })
}

#[test]
fn unspecified_parts_of_a_topology_follow_from_the_count() {
    assert_eq!(cpus("6").topology(), topology(1, 6, 1));
    assert_eq!(cpus("8,threads=2").topology(), topology(1, 4, 2));
    assert_eq!(cpus("8,sockets=2").topology(), topology(2, 4, 1));
    assert_eq!(cpus("8,cores=2").topology(), topology(4, 2, 1));
    assert_eq!(cpus("12,sockets=2,cores=3,threads=2").topology(), topology(2, 3, 2));
}

#[test]
fn counts_and_topologies_that_no_machine_has_are_refused() {
    assert_eq!(cpus("0").topology(), Err(CpusError::Count(0)));
    assert_eq!(cpus("65").topology(), Err(CpusError::Count(65)));
    let error = cpus("4,sockets=3").topology().unwrap_err();
    assert_eq!(error.to_string(), "--cpus 4: 3 sockets of 1 cores of 1 threads are 3 processors, not 4");
    assert!(cpus("4,sockets=0").topology().is_err());
    assert!(cpus("4,sockets=4294967295,cores=4294967295,threads=4294967295").topology().is_err());
}

#[test]
fn an_affinity_list_names_a_processor_for_each_vp() {
    assert_eq!(cpus("4,affinity=0:2:4-5").host_processors(), Ok(Some(vec![0, 2, 4, 5])));
    assert_eq!(cpus("4").host_processors(), Ok(None));
    assert!(cpus("4,affinity=0-1").host_processors().unwrap_err().to_string().contains("each of the 4"));
    for wrong in ["x", "3-1", "0::1", "0-70000", ""] {
        let cpus = Cpus { affinity: Some(wrong.into()), ..Cpus::default() };
        assert!(matches!(cpus.host_processors(), Err(CpusError::Affinity { .. })), "{wrong}");
    }
}
