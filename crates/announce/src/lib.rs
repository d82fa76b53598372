//! ARP and NDP for load balancer addresses: machines of bytes and ticks, sockets at the edge.
