/*
 * Traffic over one reliable connection whose every message is checked, with all attributes of the connection to choose:
 * what a test needs to tell to the packet what a fault has cost.
 *
 *   verbs serve PORT GID-INDEX              serves one client after the other, for ever
 *   verbs ADDRESS PORT GID-INDEX [NAME=VALUE ...]
 *
 * prints how the work requests ended and what the peer found in its memory, one NAME=VALUE a word.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum op { SEND, WRITE, READ, ADD };
static const char *const op_names[] = {"send", "write", "read", "add"};

struct options {
	int64_t op, size, count, window, mtu, timeout, retry, rnr_retry, min_rnr, receive_after, patience, rd_atomic, until_told, linger, srq;
};

static const struct options defaults = {
	.op = WRITE, .size = 4096, .count = 1, .window = 1, .mtu = 1024, .timeout = 15, .retry = 7, .rnr_retry = 7,
	.min_rnr = 12, .receive_after = 0, .patience = 60, .rd_atomic = 1, .until_told = 0,
};

struct peer {
	struct options options;
	union ibv_gid gid;
	uint64_t address;
	uint32_t qpn, psn, rkey;
};

/* Ends a client that goes on until it is told. */
#define STOP "/run/verbs-stop"

/* What the server found; words of text follow. */
#define VERDICT 400

static struct ibv_context *context;
static int gid_index;

static void die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n", strerror(errno));
	exit(2);
}

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void all(int fd, void *data, size_t len, int out)
{
	for (char *at = data; len > 0;) {
		ssize_t n = out ? write(fd, at, len) : read(fd, at, len);
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			die("%s", out ? "write to the peer" : "read from the peer");
		at += n;
		len -= n;
	}
}

/* The byte at `at` of message `number`: no two messages are alike, nor two places in one. */
static uint8_t pattern(uint64_t number, uint64_t at)
{
	uint64_t word = (number + 1) * 0x9e3779b97f4a7c15u + (at / 8 + 1) * 0xbf58476d1ce4e5b9u;
	word ^= word >> 29;
	word *= 0x94d049bb133111ebu;
	return word >> (8 * (at % 8));
}

static void fill(uint8_t *to, uint64_t number, uint64_t len)
{
	for (uint64_t at = 0; at < len; at++)
		to[at] = pattern(number, at);
}

/* How many bytes differ, and where the first one is. */
static uint64_t differences(const uint8_t *in, uint64_t number, uint64_t len, uint64_t *first)
{
	uint64_t wrong = 0;
	for (uint64_t at = 0; at < len; at++)
		if (in[at] != pattern(number, at) && wrong++ == 0)
			*first = at;
	return wrong;
}

/* Receives that are posted at a time: many, so that a server that is late has an answer still. */
#define RECEIVES 64

/* A queue pair with its memory: a slot for each message of the window, or for each receive. */
struct side {
	struct options options;
	uint64_t slots;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	struct ibv_srq *srq;
	uint8_t *memory;
	uint64_t slot;
	struct peer self, peer;
};

static void make(struct side *side, const struct options *options, uint64_t slots)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC, .sq_sig_all = 1};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qp_access_flags = access};

	side->options = *options;
	side->slots = slots;
	side->slot = (options->size + 63) / 64 * 64;
	if (side->slot == 0)
		side->slot = 64;
	side->memory = aligned_alloc(4096, (side->slot * slots + 4095) / 4096 * 4096);
	if (!side->memory)
		die("memory");
	memset(side->memory, 0, side->slot * slots);
	side->pd = ibv_alloc_pd(context);
	side->cq = ibv_create_cq(context, 2 * slots + 8, NULL, NULL, 0);
	side->mr = ibv_reg_mr(side->pd, side->memory, side->slot * slots, access);
	if (!side->pd || !side->cq || !side->mr)
		die("objects");
	/* Nobody receives through it: it has events. */
	if (options->srq) {
		struct ibv_srq_init_attr shared = {.attr = {.max_wr = 16, .max_sge = 1}};
		side->srq = ibv_create_srq(side->pd, &shared);
		if (!side->srq)
			die("shared receive queue");
	}
	init.send_cq = init.recv_cq = side->cq;
	init.cap = (struct ibv_qp_cap){.max_send_wr = slots, .max_recv_wr = slots, .max_send_sge = 1, .max_recv_sge = 1};
	side->qp = ibv_create_qp(side->pd, &init);
	if (!side->qp)
		die("queue pair");
	if (ibv_modify_qp(side->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
		die("INIT");
	side->self = (struct peer){.options = *options, .address = (uintptr_t)side->memory, .rkey = side->mr->rkey, .qpn = side->qp->qp_num};
	side->self.psn = side->qp->qp_num << 8 & 0xffffff;
	if (ibv_query_gid(context, 1, gid_index, &side->self.gid))
		die("GID %d", gid_index);
}

static void connect_to(struct side *side, const struct peer *peer)
{
	const struct options *options = &side->options;
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = options->mtu >= 4096 ? IBV_MTU_4096 : options->mtu >= 2048 ? IBV_MTU_2048 :
			options->mtu >= 1024 ? IBV_MTU_1024 : options->mtu >= 512 ? IBV_MTU_512 : IBV_MTU_256,
		.dest_qp_num = peer->qpn,
		.rq_psn = peer->psn,
		.max_dest_rd_atomic = options->rd_atomic,
		.min_rnr_timer = options->min_rnr,
		.ah_attr = {.is_global = 1, .port_num = 1, .grh = {.dgid = peer->gid, .sgid_index = gid_index, .hop_limit = 64, .traffic_class = 2}},
	};
	side->peer = *peer;
	if (ibv_modify_qp(side->qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			  IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		die("RTR");
	attr.qp_state = IBV_QPS_RTS;
	attr.timeout = options->timeout;
	attr.retry_cnt = options->retry;
	attr.rnr_retry = options->rnr_retry;
	attr.sq_psn = side->self.psn;
	attr.max_rd_atomic = options->rd_atomic;
	if (ibv_modify_qp(side->qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
			  IBV_QP_MAX_QP_RD_ATOMIC))
		die("RTS");
}

static void destroy(struct side *side)
{
	if ((side->srq && ibv_destroy_srq(side->srq)) || ibv_destroy_qp(side->qp) || ibv_dereg_mr(side->mr) || ibv_destroy_cq(side->cq) || ibv_dealloc_pd(side->pd))
		die("destroy");
	free(side->memory);
}

static void post_receive(struct side *side, uint64_t number)
{
	uint64_t offset = number % side->slots * side->slot;
	struct ibv_sge sge = {.addr = (uintptr_t)side->memory + offset, .length = side->options.size, .lkey = side->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = number, .sg_list = &sge, .num_sge = 1}, *bad;
	if (ibv_post_recv(side->qp, &wr, &bad))
		die("receive");
}

static void post(struct side *side, uint64_t number)
{
	static const enum ibv_wr_opcode opcodes[] = {IBV_WR_SEND, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD};
	const struct options *options = &side->options;
	uint64_t offset = number % options->window * side->slot;
	struct ibv_sge sge = {.addr = (uintptr_t)side->memory + offset, .length = options->size, .lkey = side->mr->lkey};
	struct ibv_send_wr wr = {.wr_id = number, .sg_list = &sge, .num_sge = 1, .opcode = opcodes[options->op]}, *bad;

	if (options->op == ADD) {
		sge.length = 8;
		wr.wr.atomic.remote_addr = side->peer.address;
		wr.wr.atomic.rkey = side->peer.rkey;
		wr.wr.atomic.compare_add = 1;
	} else {
		wr.wr.rdma.remote_addr = side->peer.address + offset;
		wr.wr.rdma.rkey = side->peer.rkey;
		if (options->op == READ)
			memset(side->memory + offset, 0, options->size);
		else
			fill(side->memory + offset, number, options->size);
	}
	if (ibv_post_send(side->qp, &wr, &bad))
		die("post");
}

/* The messages whose content is in the slots when all is done. */
static uint64_t check_slots(struct side *side, uint64_t done, uint64_t *wrong, uint64_t *first)
{
	uint64_t bad = 0;
	uint64_t from = done > (uint64_t)side->options.window ? done - side->options.window : 0;
	for (uint64_t number = from; number < done; number++) {
		uint64_t at = 0, n = differences(side->memory + number % side->options.window * side->slot, number, side->options.size, &at);
		if (n && bad++ == 0)
			*first = at;
		*wrong += n;
	}
	return bad;
}

static void events(char *text, size_t room)
{
	struct ibv_async_event event;
	size_t used = 0;
	while (ibv_get_async_event(context, &event) == 0) {
		int n = snprintf(text + used, room - used, "%s%d", used ? "," : "", event.event_type);
		if (n > 0 && used + n < room)
			used += n;
		ibv_ack_async_event(&event);
	}
	if (used == 0)
		snprintf(text, room, "none");
}

static void serve(int fd)
{
	struct peer client;
	struct side side = {0};
	struct ibv_wc wc[16];
	uint64_t received = 0, posted = 0, misplaced = 0, wrong = 0, bad = 0, first = 0, started, done = 0;
	int status = 0, told = 0, receives;
	char happened[100], verdict[VERDICT] = {0};

	all(fd, &client, sizeof(client), 0);
	receives = client.options.op == SEND;
	make(&side, &client.options, receives ? RECEIVES : client.options.window);
	for (int64_t slot = 0; slot < client.options.window; slot++)
		if (client.options.op == READ)
			fill(side.memory + slot * side.slot, slot, client.options.size);
	connect_to(&side, &client);
	started = now_us();
	if (receives && client.options.receive_after == 0)
		while (posted < RECEIVES)
			post_receive(&side, posted++);
	all(fd, &side.self, sizeof(side.self), 1);
	for (;;) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		int n = ibv_poll_cq(side.cq, 16, wc);
		if (n < 0)
			die("completions");
		for (int i = 0; i < n; i++) {
			uint64_t at = 0, differ;
			if (wc[i].status) {
				if (!status)
					status = wc[i].status;
				continue;
			}
			differ = differences(side.memory + received % RECEIVES * side.slot, received, client.options.size, &at);
			if (differ && bad++ == 0)
				first = at;
			wrong += differ;
			if (wc[i].wr_id != received || wc[i].byte_len != client.options.size)
				misplaced++;
			received++;
			post_receive(&side, posted++);
		}
		if (n > 0)
			continue;
		if (told)
			break;
		if (receives && posted == 0 && now_us() - started >= (uint64_t)client.options.receive_after * 1000)
			while (posted < RECEIVES)
				post_receive(&side, posted++);
		if (poll(&ready, 1, receives ? 0 : 100) > 0) {
			all(fd, &done, sizeof(done), 0);
			told = 1;
		}
	}
	if (client.options.op == WRITE)
		bad = check_slots(&side, done, &wrong, &first);
	events(happened, sizeof(happened));
	snprintf(verdict, sizeof(verdict), "received=%llu misplaced=%llu bad=%llu wrong=%llu first=%llu peer-status=%d peer-events=%s word=%llu",
		 (unsigned long long)received, (unsigned long long)misplaced, (unsigned long long)bad, (unsigned long long)wrong,
		 (unsigned long long)first, status, happened, (unsigned long long)*(uint64_t *)side.memory);
	all(fd, verdict, sizeof(verdict), 1);
	destroy(&side);
	close(fd);
}

static int run(int fd, const struct options *options)
{
	struct side side = {0};
	struct peer server;
	struct ibv_wc wc;
	uint64_t posted = 0, completed = 0, wrong = 0, bad = 0, first = 0, previous = UINT64_MAX, began, ended, deadline;
	uint64_t slowest = 0, last, looked = 0, count = options->until_told ? UINT64_MAX : (uint64_t)options->count;
	int status = 0, vendor = 0, flushed = 0, stuck = 0;
	char verdict[VERDICT], happened[100];

	make(&side, options, options->window);
	all(fd, &side.self, sizeof(side.self), 1);
	all(fd, &server, sizeof(server), 0);
	connect_to(&side, &server);
	last = began = now_us();
	deadline = began + options->patience * 1000000;
	while (completed < count && !status && !stuck) {
		int n;
		if (options->until_told && count == UINT64_MAX && now_us() - looked > 10000) {
			looked = now_us();
			if (access(STOP, F_OK) == 0)
				count = posted;
		}
		while (posted < count && posted < completed + options->window)
			post(&side, posted++);
		n = ibv_poll_cq(side.cq, 1, &wc);
		if (n < 0)
			die("completions");
		if (n == 0) {
			stuck = now_us() > deadline;
			continue;
		}
		if (now_us() - last > slowest)
			slowest = now_us() - last;
		last = now_us();
		if (wc.status) {
			status = wc.status;
			vendor = wc.vendor_err;
			break;
		}
		uint8_t *slot = side.memory + completed % options->window * side.slot;
		if (options->op == READ) {
			uint64_t at = 0, differ = differences(slot, completed % options->window, options->size, &at);
			if (differ && bad++ == 0)
				first = at;
			wrong += differ;
		} else if (options->op == ADD) {
			uint64_t original;
			memcpy(&original, slot, 8);
			if (original != previous + 1 && bad++ == 0)
				first = original;
			previous = original;
		}
		completed++;
	}
	ended = now_us();
	if (status)
		while (flushed + completed + 1 < posted && now_us() < ended + 2000000)
			if (ibv_poll_cq(side.cq, 1, &wc) > 0)
				flushed += wc.status == IBV_WC_WR_FLUSH_ERR;
	/* For what is still on its way to the peer. */
	usleep(options->linger * 1000);
	all(fd, &completed, sizeof(completed), 1);
	all(fd, verdict, sizeof(verdict), 0);
	events(happened, sizeof(happened));
	printf("op=%s status=%d vendor=%d completed=%llu flushed=%d stuck=%d us=%llu slowest=%llu bad-here=%llu wrong-here=%llu first-here=%llu "
	       "events=%s %s\n",
	       op_names[options->op], status, vendor, (unsigned long long)completed, flushed, stuck, (unsigned long long)(ended - began),
	       (unsigned long long)slowest, (unsigned long long)bad, (unsigned long long)wrong, (unsigned long long)first, happened, verdict);
	destroy(&side);
	return 0;
}

static void parse(struct options *options, char *word)
{
	static const char *const names[] = {"op", "size", "count", "window", "mtu", "timeout", "retry", "rnr", "min-rnr", "receive-after",
					    "patience", "rd-atomic", "until-told", "linger", "srq"};
	int64_t *values = (int64_t *)options;
	char *value = strchr(word, '=');
	errno = EINVAL;
	if (!value)
		die("%s", word);
	*value++ = 0;
	for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++) {
		if (strcmp(word, names[n]))
			continue;
		if (n > 0) {
			values[n] = atoll(value);
			return;
		}
		for (size_t op = 0; op < sizeof(op_names) / sizeof(*op_names); op++)
			if (!strcmp(value, op_names[op])) {
				options->op = op;
				return;
			}
	}
	die("%s", word);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	struct ibv_device **devices = ibv_get_device_list(NULL);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, serving;

	if (argc < 4) {
		fprintf(stderr, "verbs serve|ADDRESS PORT GID-INDEX [NAME=VALUE ...]\n");
		return 2;
	}
	if (!devices || !devices[0] || !(context = ibv_open_device(devices[0])))
		die("no device");
	fcntl(context->async_fd, F_SETFL, fcntl(context->async_fd, F_GETFL) | O_NONBLOCK);
	serving = !strcmp(argv[1], "serve");
	address.sin_port = htons(atoi(argv[2]));
	gid_index = atoi(argv[3]);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (serving) {
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 4))
			die("port %s", argv[2]);
		for (;;) {
			int client = accept(fd, NULL, NULL);
			if (client < 0)
				die("accept");
			serve(client);
		}
	}
	struct options options = defaults;
	for (int n = 4; n < argc; n++)
		parse(&options, argv[n]);
	if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die("%s", argv[1]);
	return run(fd, &options);
}
