"""The shape of OPNsense's alias resolver: dnspython's asynchronous resolver, 100 questions at once, a barrier.

ADDRESS PORT NAMES OUT: reads names, writes "NAME ADDRESS" and "NAME CNAME TARGET".
"""

import asyncio
import sys

import dns.asyncresolver
import dns.rdatatype

BATCH = 100


async def resolve(address, port, queue, out):
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [address]
    resolver.port = port
    resolver.timeout = 2
    asked = set()
    while queue:
        batch = []
        while queue and len(batch) < BATCH:
            name = queue.pop()
            if name not in asked:
                asked.add(name)
                batch += [(name, "A"), (name, "AAAA")]
        answers = await asyncio.gather(*(resolver.resolve(*question) for question in batch), return_exceptions=True)
        for (name, _), answer in zip(batch, answers):
            if isinstance(answer, Exception):
                continue
            for rrset in answer.response.answer:
                for record in rrset:
                    if record.rdtype == dns.rdatatype.CNAME:
                        target = record.target.to_text(omit_final_dot=True)
                        queue.append(target)
                        print(name, "CNAME", target, file=out)
                    else:
                        print(name, record.address, file=out)


def main():
    address, port, names, out = sys.argv[1:]
    with open(names) as file:
        queue = file.read().split()
    with open(out, "w") as file:
        asyncio.run(resolve(address, int(port), queue, file))


main()
