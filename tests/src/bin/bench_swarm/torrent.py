# libtorrent as a fleet would set it up: every peer known from the start, no DHT, no uTP, a second between unchokes.
import hashlib, os, sys, time
import libtorrent as lt

me, addresses = int(sys.argv[1]), sys.argv[2:]
payload = os.environ["PAYLOAD"]
pieces = lt.file_storage()
lt.add_files(pieces, payload)
made = lt.create_torrent(pieces, piece_size=256 << 10)
lt.set_piece_hashes(made, os.path.dirname(payload))
about = lt.torrent_info(lt.bdecode(lt.bencode(made.generate())))

session = lt.session(dict(
    listen_interfaces=addresses[me] + ":6881", enable_dht=False, enable_lsd=False, enable_upnp=False,
    enable_natpmp=False, enable_outgoing_utp=False, enable_incoming_utp=False, unchoke_slots_limit=8,
    unchoke_interval=1, optimistic_unchoke_interval=2, allowed_fast_set_size=0, connection_speed=200,
    torrent_connect_boost=60, max_out_request_queue=200, request_queue_time=1, smooth_connects=False,
    min_reconnect_time=1, peer_connect_timeout=3, rate_limit_ip_overhead=False, mixed_mode_algorithm=0,
    piece_extent_affinity=False, suggest_mode=0, seed_choking_algorithm=1, strict_end_game_mode=True,
    send_buffer_watermark=512 << 10, send_buffer_low_watermark=64 << 10))
new = lt.add_torrent_params()
new.ti = about
new.save_path = os.path.dirname(payload) if me == 0 else os.getcwd()
new.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
if me == 0:
    new.flags |= lt.torrent_flags.seed_mode
    torrent = session.add_torrent(new)
    while not torrent.status().is_seeding:
        time.sleep(0.05)
print("ready", flush=True)
sys.stdin.readline()
if me > 0:
    torrent = session.add_torrent(new)
    # Each pair is connected once.
    for other in addresses[:me]:
        torrent.connect_peer((other, 6881))
    while not torrent.status().is_seeding:
        time.sleep(0.01)
    print("done", flush=True)
while True:
    time.sleep(1)
