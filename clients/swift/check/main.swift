// Runs the guard and the receipts: `check <an empty directory> <a receipt URL>`.

import Foundation

func expect(_ holds: Bool, _ what: String) {
    guard holds else {
        print("not so: \(what)")
        exit(1)
    }
}

let group = CommandLine.arguments[1]
let url = CommandLine.arguments[2]

expect(PostriderGuard(appGroup: "") == nil, "without a group there is no guard")
let seen = PostriderGuard(appGroup: group)!
expect(seen.claim("a"), "what comes first is shown")
expect(!seen.claim("a"), "what comes again is not")
expect(!PostriderGuard(appGroup: group)!.claim("a"), "another process knows it too")
for number in 1..<PostriderGuard.idsMax {
    expect(seen.claim("\(number)"), "each id is another")
}
expect(!seen.claim("a"), "200 ids are remembered")
expect(seen.claim("one more") && seen.claim("a"), "and not more")

let push = PostriderPush(userInfo: [
    "postrider": ["id": "7", "receipt": ["url": url, "token": "t"]]
])!
expect(push.id == "7" && push.receiptToken == "t", "a push is read")
let firebase = PostriderPush(userInfo: [
    "postrider_id": "8", "postrider_receipt_url": url, "postrider_receipt_token": "u",
])!
expect(firebase.id == "8" && firebase.receiptURL?.absoluteString == url, "from Firebase as well")
expect(PostriderPush(userInfo: ["aps": 1]) == nil, "what comes from elsewhere is not ours")

let receipts = PostriderReceipts(appGroup: group)!
receipts.add(.displayed, of: push)
receipts.add(.displayed, of: push)
receipts.add(.clicked, of: firebase)
let sent = DispatchSemaphore(value: 0)
receipts.flush { sent.signal() }
expect(sent.wait(timeout: .now() + 10) == .success, "a flush calls back")
let left = try! Data(contentsOf: URL(fileURLWithPath: group + "/postrider-receipts.json"))
print(String(decoding: left, as: UTF8.self))
