"""gRPC over HTTP/2 on the event loop itself: the transport for callers on this machine.

Frames, header compression and flow control are the library's, `ngh2` over libnghttp2; what is here is gRPC
over it (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). A call is answered where its bytes
arrive: no other thread is woken for it and, unless it has to wait, no task is made.
"""
