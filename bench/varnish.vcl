# The peer for cold fetches that keeps everything in memory: Varnish streaming from the bucket.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "$origin_port";
}

sub vcl_backend_response {
    set beresp.ttl = 1h;
}
